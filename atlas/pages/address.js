"use strict";
// What one sees, kept in the address: #v=x,y,span&q=cat&by=meaning&p=12&c=group&neuron=3&sel=…&theme=dark.
// Short forms are read too: #12 is a row, #q=cat a query, #neuron=3 a neuron.

atlas.remember = (page) => {
  const root = document.documentElement;
  let timer = 0, own = location.hash;

  function write() {
    clearTimeout(timer);
    const [x, y, span] = page.scatter.seen().map(Math.round);
    const parts = { v: page.moved ? [x, y, span].join(",") : null, ...page.finder.state(), ...page.card.state(), ...page.legend.state(), ...page.selection.state(), theme: root.dataset.theme || null };
    const kept = new URLSearchParams(Object.entries(parts).filter(([, value]) => value !== null && value !== undefined));
    own = String(kept) ? `#${String(kept).replaceAll("%2C", ",").replaceAll("%3B", ";")}` : "";
    history.replaceState(null, "", own || location.pathname);
  }
  function later() { // browsers refuse hundreds of changes a minute
    clearTimeout(timer);
    timer = setTimeout(write, 250);
  }
  async function read() {
    const hash = location.hash.slice(1), state = new URLSearchParams(hash);
    const picked = /^\d+$/.test(hash) ? hash : state.get("p");
    if (/^\d+$/.test(picked || "")) await page.located();
    if (picked === hash) return page.pick(page.pointOf[picked] ?? -1, true);
    if (["light", "dark"].includes(state.get("theme"))) root.dataset.theme = state.get("theme");
    const view = (state.get("v") || "").split(",").map(Number);
    if (state.get("c")) page.legend.choose(state.get("c"));
    if (/^\d+$/.test(state.get("neuron") || "")) await page.legend.light(Number(state.get("neuron")));
    if (state.get("q")) await page.finder.set(state.get("q"), state.get("by"));
    if (state.get("sel")) page.selection.restore(state.get("sel"));
    if (/^\d+$/.test(picked || "")) page.pick(page.pointOf[picked] ?? -1, !state.get("v"));
    if (view.length === 3 && view.every(Number.isFinite) && view[2] > 0) page.scatter.look(...view);
  }
  addEventListener("hashchange", () => { if (location.hash !== own) read(); });
  new MutationObserver(later).observe(root, { attributeFilter: ["data-theme"] });
  return { read, write, later };
};
