"use strict";
// The map: of all rows, or of what atlas.source brings. Each part of the page is a function of `page`, which holds
// what they share.

(async () => {
  const { element } = atlas;
  const settings = atlas.json("settings"), byId = (id) => document.getElementById(id);
  const page = await (atlas.source || (settings.tables.overview ? atlas.tiles : atlas.whole))(settings);
  const { rows, points, n, order } = page, still = byId("still");
  const partial = order.length < n;

  Object.assign(page, { settings, moved: false, names: null, lit: null, pictured: 48 }); // rows that drive a neuron shown by their pictures, the rest by colour
  let close = null, shown = order; // points of a close view, where not all can be drawn
  page.shown = () => shown;
  page.refresh = () => { // after another colour, filter or part
    page.legend.paint();
    const drawn = close ? Uint32Array.from(close) : order;
    shown = page.legend.hidden() ? drawn.filter(page.legend.visible) : drawn;
    page.scatter.fill(shown);
    if (partial) {
      still.hidden = !page.legend.plain(); // it shows all, as they are coloured at first
      byId("limited").textContent = close ? "" : `${order.length.toLocaleString("en")} of ${n.toLocaleString("en")} points are drawn; zoom in for the rest.`;
    }
    page.light();
  };
  let settled = 0, turn = 0;
  function settle() { // once the view rests, all that lies in it is drawn if it is little enough
    clearTimeout(settled);
    if (partial) settled = setTimeout(async () => {
      const asked = ++turn, found = await page.inside(page.scatter.view());
      if (asked !== turn || (!found && !close)) return;
      close = found;
      page.refresh();
    }, 200);
  }
  // What drives a neuron, what was found and what is selected may all be there: the latest act stands out.
  const bright = { neuron: () => page.lit, found: () => page.finder?.hits(), selection: () => page.selection?.chosen() };
  const said = { neuron: "what drives the neuron", found: "what was found", selection: "what is selected" };
  let acts = Object.keys(bright); // the latest first
  const there = () => acts.filter((act) => bright[act]());
  page.leading = () => (there().length > 1 ? there()[0] : null);
  page.light = (act) => {
    if (bright[act]) acts = [act, ...acts.filter((other) => other !== act)];
    const first = there()[0], of = first && bright[first]().filter((i) => page.placed(i) && page.legend.visible(i));
    if (first === "neuron") page.scatter.light(Uint32Array.from(of).reverse(), Uint32Array.from(of.slice(0, page.pictured))); // the strongest on top
    else page.scatter.light(of ? Uint32Array.from(of) : null);
    page.listed?.(page.finder?.hits());
    byId("leading").textContent = page.leading() ? `On the map ${said[page.leading()]} stands out, being the latest.` : "";
  };
  page.leave = (part, to) => { // what closes hands on the focus that it holds
    if (part.contains(document.activeElement)) (to?.offsetParent ? to : page.scatter.plot).focus({ preventScroll: true });
  };
  page.changed = () => page.address?.later();
  page.written = () => page.address?.write();
  page.pick = (i, fly) => page.card.pick(i, fly);

  page.scatter = await atlas.scatter("map", points, {
    get room() { return page.room?.() ?? 2500; },
    side: page.side || 30,
    spotlight: true,
    spot: (i) => rows.spot(points.row[i]),
    hover: function hover(i, x, y) {
      if (page.hint) return atlas.show(x, y, true, ...page.hint(i));
      const row = points.row[i];
      if (!page.known(i)) page.need([i]).then(() => { if (page.scatter.pointed() === i) hover(i, x, y); });
      const text = element("div", {}, element("span.caption", {}, rows.name(row)), element("small", {}, rows.about(row)));
      atlas.show(x, y, false, ...(rows.sheet[row] >= 0 ? [rows.thumb(row), text] : [text]));
    },
    pick: (i) => page.pick(i),
    moved: () => { page.moved = true; page.changed(); settle(); },
    still: partial ? still : null,
    named: (labels, k) => (page.named || page.legend.named)(labels, k),
  });
  page.legend = atlas.legend(page);
  page.refresh();
  page.legend.show();
  if (!partial) still?.remove();
  page.card = atlas.card(page);
  page.finder = atlas.find(page);
  page.selection = atlas.selection(page);
  page.address = atlas.remember(page);
  page.moved = false;

  Promise.resolve(page.regions || atlas.table("labels")).then((labels) => page.scatter.name(labels));
  for (const button of document.querySelectorAll("[data-region]")) button.addEventListener("click", () => {
    const [x, y] = button.dataset.region.split(",").map(Number);
    page.scatter.look(x, y, 65000 / 5);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { page.selection.stop(); page.card.close(); }
    if (event.key === "/" && !/INPUT|TEXTAREA/.test(document.activeElement.tagName)) { event.preventDefault(); byId("query").focus(); }
  });
  const named = page.need(order.subarray(0, 1));
  const beside = Promise.all([page.more(), settings.neurons && atlas.table("neurons")]).then(([, names]) => { page.names = names; page.card.again(); });
  await named;
  if (n <= 200_000) await beside;
  await page.address.read();
  atlas.page = page;
  document.body.dataset.ready = "";
})();
