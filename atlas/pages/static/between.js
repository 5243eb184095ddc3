// @ts-check
"use strict";
// What lies between two points: the shortest way from one to the other, each step from a point to one of its nearest.

atlas.between = (page) => {
  const { element } = atlas;
  const { rows, points, n } = page;
  let from = -1,
    ends = [-1, -1],
    way = [],
    linked = null;

  // Points that are near one another, whichever of the two lists the other; those of a point's own list come first.
  function links() {
    const found = Array.from({ length: n }, (_, i) => page.near(i));
    const own = found.map((near) => near.length);
    for (let i = 0; i < n; i++) for (const other of found[i].slice(0, own[i])) found[other].push(i);
    return found;
  }
  function search(a, b) {
    linked ||= links();
    const before = new Int32Array(n).fill(-1),
      queue = [a];
    before[a] = a;
    for (let at = 0; at < queue.length && before[b] < 0; at++)
      for (const other of linked[queue[at]])
        if (before[other] < 0 && page.legend.visible(other)) {
          before[other] = queue[at];
          queue.push(other);
        }
    const found = before[b] < 0 ? [] : [b];
    while (found.length && found[0] !== a) found.unshift(before[found[0]]);
    return found;
  }
  function connect(a, b) {
    [ends, from] = [[a, b], -1];
    way = search(a, b);
  }
  function forget() {
    [ends, way, from] = [[-1, -1], [], -1];
  }
  // Told of every point that is picked: the second of two ends is one.
  function picked(i) {
    if (from >= 0 && i !== from) connect(from, i);
    else if (ends[0] >= 0 && !ends.includes(i) && !way.includes(i)) forget();
  }
  function part(i, redraw) {
    if (page.order.length < n) return null; // not all neighbours are there
    if (from === i)
      return element("p.note", { role: "status" }, "Now pick the other point, on the map or from a search.");
    if (!ends.includes(i) && !way.includes(i)) {
      const begin = () => {
        from = i;
        redraw();
      };
      const what = atlas.neuronSource ? "neuron" : "point";
      return element("button.ask", { type: "button", onclick: begin }, `What lies between this and another ${what}?`);
    }
    const [a, b] = ends.map((end) => rows.name(points.row[end]));
    const tell = way.length
      ? "Neighbours in this strip are among each other’s nearest, by the model."
      : "No way leads from one to the other from neighbour to neighbour; a kind that the legend hides is passed by.";
    return element(
      "div.between",
      {},
      element("h3", {}, "Between ", element("bdi", {}, a), " and ", element("bdi", {}, b)),
      element(
        "div.strip",
        { role: "group", "aria-label": "The way from one to the other" },
        ...way.map((other) => {
          const title = rows.name(points.row[other]);
          const act = { type: "button", title, "aria-label": title, onclick: () => page.pick(other, true) };
          return rows.thumb(points.row[other], "button", { ...act, "aria-current": other === i ? "true" : null });
        }),
      ),
      element("small", {}, tell),
    );
  }
  const state = () => ({ way: ends[0] < 0 ? null : ends.map(page.number).join(",") });
  function restore(text) {
    const found = (text || "").split(",").map((number) => page.pointOf[Number(number)] ?? -1);
    if (found.length === 2 && found.every((i) => i >= 0) && page.order.length === n) connect(found[0], found[1]);
    else forget();
  }
  return { picked, part, way: () => way, forget, state, restore };
};
