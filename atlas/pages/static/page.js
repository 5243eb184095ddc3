// @ts-check
"use strict";
// The object that the parts of a map share: its points, how they are shown, and what holds for the page as a whole.

atlas.createPage = async (settings, source) => {
  const { n, order } = source,
    partial = order.length < n,
    still = atlas.byId("still");
  let close = null, // the points of a close view, where not all can be drawn
    shown = order,
    settled = 0,
    turn = 0;

  function refresh() {
    page.legend.paint();
    const drawn = close ? Uint32Array.from(close) : order;
    shown = page.legend.hidden() ? drawn.filter(page.legend.visible) : drawn;
    page.scatter.fill(shown);
    if (partial) {
      still.hidden = !page.legend.plain(); // it has all points in their first colours
      atlas.byId("limited").textContent = close
        ? ""
        : `${order.length.toLocaleString("en")} of ${n.toLocaleString("en")} points are drawn; zoom in for the rest.`;
    }
    light();
  }
  function settle() {
    clearTimeout(settled);
    if (!partial) return;
    settled = setTimeout(async () => {
      const asked = ++turn,
        found = await page.inside(page.scatter.view());
      if (asked !== turn || (!found && !close)) return;
      close = found;
      refresh();
    }, 200);
  }

  // -- highlights: what activates a neuron, what was found, what is selected; the latest stands out -------------------

  const bright = {
    neuron: () => page.lit,
    found: () => page.finder?.hits(),
    selection: () => page.selection?.chosen(),
  };
  const texts = { neuron: "what activates the neuron", found: "what was found", selection: "what is selected" };
  let acts = Object.keys(bright); // the latest first
  const there = () => acts.filter((act) => bright[act]());
  const leading = () => (there().length > 1 ? there()[0] : null);
  function light(act = "") {
    if (bright[act]) acts = [act, ...acts.filter((other) => other !== act)];
    const first = there()[0],
      of = first && bright[first]().filter((i) => page.placed(i) && page.legend.visible(i));
    if (first === "neuron") {
      const pictured = Uint32Array.from(of.slice(0, page.pictured));
      page.scatter.light(Uint32Array.from(of).reverse(), pictured); // the strongest on top
    } else page.scatter.light(of ? Uint32Array.from(of) : null);
    page.listed(page.finder?.hits() ?? null);
    atlas.byId("leading").textContent = leading() ? `On the map ${texts[leading()]} stands out: it came last.` : "";
  }

  /** @type {PageState} */
  const state = {
    settings,
    moved: false,
    names: null,
    lit: null,
    pictured: 48,
    shown: () => shown,
    refresh,
    leading,
    light,
    settle,
    leave: (part, to) => {
      if (!part.contains(document.activeElement)) return;
      (to?.offsetParent ? to : page.scatter.plot).focus({ preventScroll: true });
    },
    changed: () => page.address?.later(),
    written: (held) => page.address?.write(held),
    pick: (i, fly) => page.card.pick(i, fly),
    // the parts, which map.js adds
    scatter: null,
    legend: null,
    between: null,
    card: null,
    finder: null,
    selection: null,
    address: null,
  };
  const page = /** @type {Page} */ ({ ...source, ...state });
  return Object.assign(page, await (atlas.neuronView || atlas.rowView)(page));
};
