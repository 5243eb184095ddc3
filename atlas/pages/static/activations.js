// @ts-check
"use strict";
// The activation atlas: adds tooltips with labels, cards with the patches of a cell, and zoom to the tiles of the page.

(async () => {
  const { element } = atlas;
  const cells = await atlas.table("cells");
  const grid = atlas.one(".grid"),
    stage = atlas.one(".stage"),
    card = atlas.byId("card");
  const tiles = [...grid.querySelectorAll("button")];
  const k = cells.member.width;
  const label = (i) => cells.labels.at(cells.label[i]) || "no label";
  const members = (i) =>
    Array.from(cells.member.subarray(i * k, (i + 1) * k), (row, at) => [row, i * k + at]).filter(([row]) => row >= 0);
  function patch(at, tag = "i", attributes = {}) {
    // the part of the thumbnail that the position of the layer covers
    const [top, left] = [0, 1].map((axis) => cells.corner[2 * at + axis] / 100),
      { x, y } = atlas.cellPlace(cells.cell[at]);
    return element(`${tag}.t.s${cells.sheet[at]}`, {
      "--x": x + left,
      "--y": y + top,
      "--z": atlas.settings().zoom,
      ...attributes,
    });
  }
  const switched = document.getElementById("icons"); // shows drawings or patches; there where there are drawings
  switched?.addEventListener("click", () =>
    switched.setAttribute("aria-pressed", String(grid.classList.toggle("icons"))),
  );
  const about = (i) => `${cells.count[i].toLocaleString("en")} patches`;

  grid.addEventListener("pointerover", (event) => {
    const i = tiles.indexOf(event.target);
    if (i < 0 || event.pointerType === "touch") return; // touch opens the card
    atlas.show(
      event.clientX,
      event.clientY,
      true,
      element("div", {}, element("strong.caption", {}, label(i)), element("small", {}, about(i))),
      element(
        "div.row",
        {},
        ...members(i)
          .slice(0, 4)
          .map(([, at]) => patch(at)),
      ),
    );
  });
  grid.addEventListener("pointerout", atlas.hide);
  function close() {
    // the focus goes back to the tile of the card
    const tile = tiles.find((one) => one.hasAttribute("aria-pressed"));
    if (card.contains(document.activeElement)) tile?.focus({ preventScroll: true });
    tile?.removeAttribute("aria-pressed");
    card.hidden = true;
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
  grid.addEventListener("click", (event) => {
    const i = tiles.indexOf(event.target);
    if (i < 0) return;
    atlas.hide();
    for (const tile of tiles) tile.removeAttribute("aria-pressed");
    tiles[i].setAttribute("aria-pressed", "true");
    card.hidden = false;
    card.replaceChildren(
      element("button.quiet", { type: "button", "aria-label": "Close card", onclick: close }, "×"),
      element(
        "div.head",
        {},
        ...(switched ? [element("i.t.icon", { "--i": i, "--icons": grid.style.getPropertyValue("--icons") })] : []),
        patch(members(i)[0][1]),
        element("div", {}, element("h2.caption", {}, label(i)), element("small", {}, about(i))),
      ),
      element(
        "div",
        {},
        element("h3", {}, "Patches nearest to the mean of this cell"),
        element(
          "div.strip",
          {},
          ...members(i).map(([row, at]) =>
            patch(at, "a", { href: `map.html#${row}`, title: cells.names.at(cells.name[at]) }),
          ),
        ),
      ),
    );
  });

  let zoom = 1;
  for (const button of stage.querySelectorAll("[data-zoom]"))
    button.addEventListener("click", () => {
      const [x, y] = [
        (stage.scrollLeft + stage.clientWidth / 2) / stage.scrollWidth,
        (stage.scrollTop + stage.clientHeight / 2) / stage.scrollHeight,
      ];
      zoom = Math.min(6, Math.max(1, zoom * (button.dataset.zoom === "in" ? 1.5 : 1 / 1.5)));
      grid.style.setProperty("--zoom", zoom);
      stage.scrollTo(x * stage.scrollWidth - stage.clientWidth / 2, y * stage.scrollHeight - stage.clientHeight / 2);
    });
  document.body.dataset.ready = "";
})();
