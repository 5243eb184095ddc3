"use strict";
// The activation atlas: the tiles are in the page; this adds labels on pointing, members on clicking, and zoom.

(async () => {
  const { element } = atlas;
  const settings = atlas.json("settings");
  const [rows, cells] = await Promise.all([atlas.rows(settings.kinds), atlas.table("cells")]);
  const grid = document.querySelector(".grid"), stage = document.querySelector(".stage"), card = document.getElementById("card");
  const tiles = [...grid.querySelectorAll("button")];
  const k = cells.member.width;
  const label = (i) => cells.labels.at(cells.label[i]) || "no label";
  const members = (i) => Array.from(cells.member.subarray(i * k, (i + 1) * k), (row, at) => [row, i * k + at]).filter(([row]) => row >= 0);
  const patch = ([row, at], tag, attributes) => rows.patch(row, cells.corner[2 * at] / 100, cells.corner[2 * at + 1] / 100, tag, attributes);
  const about = (i) => `${cells.count[i].toLocaleString("en")} patches`;

  grid.addEventListener("pointerover", (event) => {
    const i = tiles.indexOf(event.target);
    if (i < 0 || event.pointerType === "touch") return; // a finger opens the card
    atlas.show(event.clientX, event.clientY, true,
      element("div", {}, element("strong.caption", {}, label(i)), element("small", {}, about(i))),
      element("div.row", {}, ...members(i).slice(0, 4).map((member) => patch(member))));
  });
  grid.addEventListener("pointerout", atlas.hide);
  grid.addEventListener("click", (event) => {
    const i = tiles.indexOf(event.target);
    if (i < 0) return;
    atlas.hide();
    for (const tile of tiles) tile.removeAttribute("aria-pressed");
    tiles[i].setAttribute("aria-pressed", "true");
    card.hidden = false;
    card.replaceChildren(
      element("button.quiet", { type: "button", "aria-label": "Close card", onclick: () => { card.hidden = true; tiles[i].removeAttribute("aria-pressed"); } }, "×"),
      element("div.head", {}, patch(members(i)[0]), element("div", {}, element("div.caption", {}, label(i)), element("small", {}, about(i)))),
      element("div", {}, element("h3", {}, "Patches nearest to its mean"), element("div.strip", {},
        ...members(i).map((member) => patch(member, "a", { href: `index.html#${member[0]}`, title: `${rows.name(member[0])} · ${rows.about(member[0])}` })))));
  });

  let zoom = 1;
  for (const button of stage.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => {
    const [x, y] = [(stage.scrollLeft + stage.clientWidth / 2) / stage.scrollWidth, (stage.scrollTop + stage.clientHeight / 2) / stage.scrollHeight];
    zoom = Math.min(6, Math.max(1, zoom * (button.dataset.zoom === "in" ? 1.5 : 1 / 1.5)));
    grid.style.setProperty("--zoom", zoom);
    stage.scrollTo(x * stage.scrollWidth - stage.clientWidth / 2, y * stage.scrollHeight - stage.clientHeight / 2);
  });
  document.body.dataset.ready = "";
})();
