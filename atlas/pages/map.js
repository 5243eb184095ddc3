"use strict";
// The map of all rows. Each part of the page is a function of `page`, which holds what they share.

(async () => {
  const { element } = atlas;
  const settings = atlas.json("settings");
  const [rows, points] = await Promise.all([atlas.rows(settings.kinds, true), atlas.table("map")]);
  const n = points.x.length, byId = (id) => document.getElementById(id);
  const [WHOLE, PART, WITHOUT_GPU] = [1_000_000, 500_000, 20_000]; // points up to which all are drawn; else so many, or without WebGL
  points.code = new Uint8Array(n);
  const pointOf = new Int32Array(rows.length).fill(-1);
  points.row.forEach((row, i) => { pointOf[row] = i; });

  // Points are drawn in a scattered order, so that no kind lies wholly on top of another, and the first are a fair part.
  const order = (() => {
    let stride = Math.floor(n * 0.6180339) | 1;
    const shared = (a, b) => (b ? shared(b, a % b) : a);
    while (shared(n, stride) > 1) stride += 2;
    return Uint32Array.from({ length: n }, (_, i) => (i * stride) % n);
  })();
  const able = Boolean(document.createElement("canvas").getContext("webgl"));
  const limit = able ? (n > WHOLE ? PART : n) : WITHOUT_GPU;
  const everything = limit < n ? atlas.places(points, order) : null;
  if (!able && limit < n) byId("limited").textContent = "Without WebGL a part of the points is drawn; zoom in for the rest.";
  if (able && limit < n) byId("limited").textContent = `${limit.toLocaleString("en")} of ${n.toLocaleString("en")} points are drawn; zoom in for the rest.`;

  const page = { rows, points, settings, n, pointOf, moved: false, near: null, neurons: null, lit: null };
  let shown = order;
  page.shown = () => shown;
  page.refresh = () => { // after another colour or filter
    page.legend.paint();
    shown = page.legend.hidden() ? order.filter(page.legend.visible) : order;
    part();
    page.light();
  };
  // Where there are more points than can be drawn, those in view if they are few enough, else an even part of all.
  let settled = 0;
  function part() {
    if (!everything) return page.scatter.fill(shown);
    const { x0, x1, y0, y1 } = page.scatter.view();
    const near = everything.count(x0, y0, x1, y1) <= limit ? everything.inside(x0, y0, x1, y1).filter(page.legend.visible) : null;
    page.scatter.fill(near ? Uint32Array.from(near) : shown.subarray(0, limit));
  }
  function settle() { // once the view rests
    clearTimeout(settled);
    if (everything) settled = setTimeout(part, 200);
  }
  page.light = () => { // what was found, chosen or drives a neuron stands out
    const bright = page.selection?.chosen() || page.finder?.hits() || page.lit;
    page.scatter.light(bright && Uint32Array.from(bright.filter(page.legend.visible)));
  };
  page.changed = () => page.address?.later();
  page.written = () => page.address?.write();
  page.pick = (i, fly) => page.card.pick(i, fly);

  page.scatter = await atlas.scatter("map", points, {
    room: 2500,
    side: 30,
    spotlight: true,
    spot: (i) => rows.spot(points.row[i]),
    hover: (i, x, y) => {
      const row = points.row[i];
      const text = element("div", {}, element("span.caption", {}, rows.name(row)), element("small", {}, rows.about(row)));
      atlas.show(x, y, false, ...(rows.sheet[row] >= 0 ? [rows.thumb(row), text] : [text]));
    },
    pick: (i) => page.pick(i),
    moved: () => { page.moved = true; page.changed(); settle(); },
  });
  page.legend = atlas.legend(page);
  page.refresh();
  page.legend.show();
  byId("still")?.remove();
  page.captions = atlas.table("captions").then((texts) => Object.assign(rows, texts));
  page.card = atlas.card(page);
  page.finder = atlas.find(page);
  page.selection = atlas.selection(page);
  page.address = atlas.remember(page);
  page.moved = false;

  atlas.table("labels").then((labels) => page.scatter.name(labels));
  for (const button of document.querySelectorAll("[data-region]")) button.addEventListener("click", () => {
    const [x, y] = button.dataset.region.split(",").map(Number);
    page.scatter.look(x, y, 65000 / 5);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { page.selection.stop(); page.card.close(); }
    if (event.key === "/" && !/INPUT|TEXTAREA/.test(document.activeElement.tagName)) { event.preventDefault(); byId("query").focus(); }
  });
  await page.captions;
  const beside = Promise.all([settings.tables.near && atlas.table("near"), settings.neurons && atlas.table("neurons")]);
  const come = beside.then(([near, neurons]) => { Object.assign(page, { near, neurons }); page.card.again(); });
  if (n <= 200_000) await come;
  await page.address.read();
  page.moved = false;
  atlas.page = page;
  document.body.dataset.ready = "";
})();
