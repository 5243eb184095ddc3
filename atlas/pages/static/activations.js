"use strict";
// The activation atlas: the tiles are in the page; this adds labels on pointing, members on clicking, and zoom.

(async () => {
  const { element } = atlas;
  const cells = await atlas.table("cells");
  const grid = document.querySelector(".grid"), stage = document.querySelector(".stage"), card = document.getElementById("card");
  const tiles = [...grid.querySelectorAll("button")];
  const k = cells.member.width;
  const label = (i) => cells.labels.at(cells.label[i]) || "no label";
  const members = (i) => Array.from(cells.member.subarray(i * k, (i + 1) * k), (row, at) => [row, i * k + at]).filter(([row]) => row >= 0);
  function patch([, at], tag = "i", attributes = {}) { // the part of a thumbnail that the layer saw
    const [top, left] = [0, 1].map((axis) => cells.corner[2 * at + axis] / 100), x = cells.cell[at] % atlas.SHEET, y = Math.floor(cells.cell[at] / atlas.SHEET);
    return element(`${tag}.t.s${cells.sheet[at]}`, { "--x": x + left, "--y": y + top, "--z": 2, ...attributes });
  }
  const about = (i) => `${cells.count[i].toLocaleString("en")} patches`;

  grid.addEventListener("pointerover", (event) => {
    const i = tiles.indexOf(event.target);
    if (i < 0 || event.pointerType === "touch") return; // a finger opens the card
    atlas.show(event.clientX, event.clientY, true,
      element("div", {}, element("strong.caption", {}, label(i)), element("small", {}, about(i))),
      element("div.row", {}, ...members(i).slice(0, 4).map((member) => patch(member))));
  });
  grid.addEventListener("pointerout", atlas.hide);
  function close() { // the focus goes back to the tile whose card it was
    const tile = tiles.find((one) => one.hasAttribute("aria-pressed"));
    if (card.contains(document.activeElement)) tile?.focus({ preventScroll: true });
    tile?.removeAttribute("aria-pressed");
    card.hidden = true;
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  grid.addEventListener("click", (event) => {
    const i = tiles.indexOf(event.target);
    if (i < 0) return;
    atlas.hide();
    for (const tile of tiles) tile.removeAttribute("aria-pressed");
    tiles[i].setAttribute("aria-pressed", "true");
    card.hidden = false;
    card.replaceChildren(
      element("button.quiet", { type: "button", "aria-label": "Close card", onclick: close }, "×"),
      element("div.head", {}, patch(members(i)[0]), element("div", {}, element("div.caption", {}, label(i)), element("small", {}, about(i)))),
      element("div", {}, element("h3", {}, "Patches nearest to its mean"), element("div.strip", {},
        ...members(i).map((member) => patch(member, "a", { href: `index.html#${member[0]}`, title: cells.names.at(cells.name[member[1]]) })))));
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
