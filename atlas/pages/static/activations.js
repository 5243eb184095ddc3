// @ts-check
"use strict";
// The activation atlas: finer grids as the reader zooms, names at rest, tooltips, cards with the patches of a cell.
// The address names the view, the cell and whether patches stand for drawings: #v=x,y,zoom&cell=12&patches=1.

(async () => {
  const { element } = atlas;
  const cells = await atlas.table("cells");
  const grid = atlas.one(".grid"),
    stage = atlas.one(".stage"),
    names = atlas.one(".names"),
    card = atlas.byId("card"),
    switched = atlas.byId("icons"); // shows drawings or patches; there where there are drawings
  const k = cells.member.width,
    first = Number(grid.dataset.first),
    named = grid.dataset.named === "1",
    grids = grid.dataset.grids.split(" ").map(Number);
  const TILE = 36, // pixels of a square at least, for its grid to be shown
    ROOM = 32, // pixels around the whole atlas
    LARGEST = 96; // pixels of a square of the finest grid, where zooming in ends
  const label = (i) => cells.labels.at(cells.label[i]) || mixed(i);
  function mixed(i) {
    // a cell without a name is called by what its first patches show
    const shown = members(i).map(([, at]) => cells.names.at(cells.name[at]));
    return `${[...new Set(shown)].slice(0, 2).join(", ")} and others`;
  }
  const about = (i) => `${cells.count[i].toLocaleString("en")} ${named ? "things" : "patches"}`;
  const members = (i) =>
    Array.from(cells.member.subarray(i * k, (i + 1) * k), (row, at) => [row, i * k + at]).filter(([row]) => row >= 0);
  const place = (at) => {
    // the part of the thumbnail that the position of the layer covers
    const [top, left] = [0, 1].map((axis) => cells.corner[2 * at + axis] / 100),
      { x, y } = atlas.cellPlace(cells.cell[at]);
    return { "--x": x + left, "--y": y + top };
  };
  const patch = (at, tag = "i", attributes = {}) =>
    element(`${tag}.t.s${cells.sheet[at]}`, { ...place(at), "--z": atlas.settings().zoom, ...attributes });

  // -- grids: the page holds the first; the others are made when they are asked for -----------------------------------

  const numbers = new WeakMap(), // the cell of each tile
    layers = new Map(), // the tiles of each grid
    inside = new Map(
      grids.map((columns) => [columns, [...cells.grid.keys()].filter((i) => cells.grid[i] === columns)]),
    );
  function keep(columns, tiles) {
    inside.get(columns).forEach((i, at) => numbers.set(tiles[at], i));
    layers.set(columns, tiles);
    return tiles;
  }
  keep(first, [...grid.querySelectorAll("button")]);
  function tilesOf(columns) {
    if (layers.has(columns)) return layers.get(columns);
    const tiles = inside.get(columns).map((i) =>
      element(`button.t.s${cells.sheet[i * k]}`, {
        type: "button",
        ...place(i * k),
        "--column": cells.column[i],
        "--row": cells.row[i],
        "--size": cells.size[i].toFixed(2),
        "aria-label": `${label(i)}, ${about(i)}`,
      }),
    );
    names.before(element("div.layer.plain", { "--columns": columns }, ...tiles));
    return keep(columns, tiles);
  }

  // -- the view -------------------------------------------------------------------------------------------------------

  const view = { x: 0.5, y: 0.5, zoom: 1 }; // the middle, as a share of the atlas, and the enlargement
  let columns = first;
  const side = () => Math.max(1, Math.min(stage.clientWidth, stage.clientHeight) - ROOM) * view.zoom;
  const farthest = () => Math.max(1, (LARGEST * grids.at(-1)) / (side() / view.zoom));
  const between = (low, value, high) => Math.min(high, Math.max(low, value));
  function show() {
    view.zoom = between(1, view.zoom, farthest());
    for (const axis of ["x", "y"]) view[axis] = between(0, view[axis], 1);
    const wide = side();
    columns = grids.filter((each) => wide / each >= TILE).at(-1) || grids[0];
    for (const [name, value] of [
      ["--zoom", view.zoom],
      ["--cx", view.x],
      ["--cy", view.y],
    ])
      grid.style.setProperty(name, String(value));
    const tiles = tilesOf(columns);
    for (const layer of grid.querySelectorAll(".layer")) layer.hidden = layer !== tiles[0]?.parentElement;
    write(wide);
    later();
  }
  function write(wide) {
    // names at rest: the largest cell of each name that has room
    const taken = [],
      said = new Set(),
      half = [stage.clientWidth / 2, stage.clientHeight / 2],
      shown = [];
    const order = named ? [...inside.get(columns)].sort((a, b) => cells.count[b] - cells.count[a]) : [];
    for (const i of order) {
      const text = cells.labels.at(cells.label[i]);
      if (!text || said.has(text)) continue;
      const [x, y] = [(cells.column[i] + 0.5) / columns, (cells.row[i] + 0.9) / columns],
        [left, top] = [half[0] + (x - view.x) * wide, half[1] + (y - view.y) * wide],
        reach = 3.6 * text.length + 8;
      if (left < reach || top < 10 || left > 2 * half[0] - reach || top > 2 * half[1] - 10) continue;
      if (taken.some(([a, b, far]) => Math.abs(a - left) < far + reach && Math.abs(b - top) < 22)) continue;
      taken.push([left, top, reach]);
      said.add(text);
      shown.push(element("span", { "--left": `${100 * x}%`, "--top": `${100 * y}%` }, element("bdi", {}, text)));
    }
    names.replaceChildren(...shown);
  }
  function zoomAt(times, clientX, clientY) {
    // what is under the pointer stays there
    const box = stage.getBoundingClientRect(),
      [right, down] = [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2],
      before = side();
    view.zoom = between(1, view.zoom * times, farthest());
    view.x += right / before - right / side();
    view.y += down / before - down / side();
    show();
  }
  const zoomBy = (times) => {
    const { left, top, width, height } = stage.getBoundingClientRect();
    zoomAt(times, left + width / 2, top + height / 2);
  };
  function move(right, down) {
    view.x -= right / side();
    view.y -= down / side();
    show();
  }

  // -- mouse, fingers and keys ----------------------------------------------------------------------------------------

  const held = new Map(); // the pointers that are down
  let dragged = false;
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    atlas.hide();
    zoomAt(Math.exp(between(-0.5, -event.deltaY / 400, 0.5)), event.clientX, event.clientY);
  });
  stage.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest(".zoom")) return;
    if (!held.size) dragged = false;
    held.set(event.pointerId, [event.clientX, event.clientY]);
  });
  stage.addEventListener("pointermove", (event) => {
    const from = held.get(event.pointerId),
      to = [event.clientX, event.clientY];
    if (!from) return;
    const [right, down] = [to[0] - from[0], to[1] - from[1]];
    if (!dragged && Math.hypot(right, down) < 5) return;
    if (!dragged) stage.setPointerCapture(event.pointerId);
    dragged = true;
    atlas.hide();
    if (held.size === 1) move(right, down);
    else {
      const other = [...held].find(([id]) => id !== event.pointerId)[1],
        apart = (point) => Math.max(1, Math.hypot(point[0] - other[0], point[1] - other[1]));
      zoomAt(apart(to) / apart(from), (to[0] + other[0]) / 2, (to[1] + other[1]) / 2);
    }
    held.set(event.pointerId, to);
  });
  for (const end of ["pointerup", "pointercancel"])
    stage.addEventListener(end, (event) => held.delete(event.pointerId));
  stage.addEventListener("keydown", (event) => {
    const step = stage.clientWidth / 6,
      act = {
        ArrowLeft: () => move(step, 0),
        ArrowRight: () => move(-step, 0),
        ArrowUp: () => move(0, step),
        ArrowDown: () => move(0, -step),
        "+": () => zoomBy(1.5),
        "=": () => zoomBy(1.5),
        "-": () => zoomBy(1 / 1.5),
      }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  for (const button of stage.querySelectorAll("[data-zoom]"))
    button.addEventListener("click", () => zoomBy(button.dataset.zoom === "in" ? 1.5 : 1 / 1.5));
  grid.addEventListener("focusin", ({ target }) => {
    // a tile that the keyboard reaches comes into view
    const box = target.getBoundingClientRect(),
      around = stage.getBoundingClientRect(),
      hidden = box.left < around.left || box.right > around.right || box.top < around.top || box.bottom > around.bottom;
    if (hidden) center(numbers.get(target));
  });
  function center(i) {
    view.x = (cells.column[i] + 0.5) / cells.grid[i];
    view.y = (cells.row[i] + 0.5) / cells.grid[i];
    stage.scrollTo(0, 0); // browsers scroll to what has the focus, and the stage moves by itself
    show();
  }

  // -- a cell ---------------------------------------------------------------------------------------------------------

  let open = -1;
  grid.addEventListener("pointerover", (event) => {
    const i = numbers.get(event.target);
    if (i === undefined || event.pointerType === "touch" || held.size) return; // touch opens the card
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
  const tileOf = (i) => layers.get(cells.grid[i])?.[inside.get(cells.grid[i]).indexOf(i)];
  function close() {
    // the focus goes back to the tile of the card
    if (open < 0) return;
    const tile = tileOf(open);
    if (card.contains(document.activeElement)) tile?.focus({ preventScroll: true });
    tile?.removeAttribute("aria-pressed");
    open = -1;
    card.hidden = true;
    later();
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
  stage.addEventListener(
    "click",
    (event) => {
      if (dragged) event.stopPropagation(); // the end of a move opens nothing
      dragged = false;
    },
    true,
  );
  grid.addEventListener("click", (event) => {
    const i = numbers.get(event.target);
    if (i !== undefined) describe(i);
  });
  function describe(i) {
    atlas.hide();
    close();
    open = i;
    tileOf(i)?.setAttribute("aria-pressed", "true");
    const icon = switched && cells.grid[i] === first ? inside.get(first).indexOf(i) : -1;
    card.hidden = false;
    card.replaceChildren(
      element("button.quiet", { type: "button", "aria-label": "Close card", onclick: close }, "×"),
      element(
        "div.head",
        {},
        icon < 0 ? "" : element("i.t.icon", { "--i": icon, "--icons": grid.style.getPropertyValue("--icons") }),
        patch(i * k),
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
    later();
  }
  switched?.addEventListener("click", () => {
    switched.setAttribute("aria-pressed", String(grid.classList.toggle("icons")));
    later();
  });

  // -- the address ----------------------------------------------------------------------------------------------------

  let timer = 0,
    own = location.hash;
  function later() {
    // browsers refuse hundreds of changes a minute
    clearTimeout(timer);
    timer = setTimeout(() => {
      const whole = view.zoom === 1 && view.x === 0.5 && view.y === 0.5,
        digits = (value) => Number(value.toFixed(4));
      const state = new URLSearchParams();
      if (!whole) state.set("v", [view.x, view.y, view.zoom].map(digits).join(","));
      if (open >= 0) state.set("cell", String(open));
      if (switched?.getAttribute("aria-pressed") === "false") state.set("patches", "1");
      own = String(state) ? `#${String(state).replaceAll("%2C", ",")}` : "";
      history.replaceState(null, "", own || location.pathname + location.search);
    }, 250);
  }
  function read() {
    const state = new URLSearchParams(location.hash.slice(1)),
      numbersOf = (state.get("v") || "").split(",").map(Number),
      cell = /^\d+$/.test(state.get("cell") || "") ? Number(state.get("cell")) : -1;
    const there = numbersOf.length === 3 && numbersOf.every(Number.isFinite) && numbersOf[2] > 0;
    [view.x, view.y, view.zoom] = there ? numbersOf : [0.5, 0.5, 1];
    if (switched && (state.get("patches") === "1") === (switched.getAttribute("aria-pressed") === "true"))
      switched.setAttribute("aria-pressed", String(grid.classList.toggle("icons")));
    show();
    if (cell >= 0 && cell < cells.grid.length) describe(cell);
    else close();
  }
  addEventListener("hashchange", () => {
    if (location.hash !== own) read();
  });
  new ResizeObserver(show).observe(stage);
  read();
  document.body.dataset.ready = "";
})();
