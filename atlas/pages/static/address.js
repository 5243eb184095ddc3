// @ts-check
"use strict";
// The state of a map in the page's address:
// #v=x,y,span&q=cat&by=meaning&p=12&c=group&hide=kind.1&neuron=3&sel=…&beside=…&way=12,70&theme=dark.
// Short forms are read too: #12 is a row, #q=cat a query, #neuron=3 a neuron. What an address does not name has its
// default; only the theme stays as the reader chose it.
// A pick, a neuron and a selection are steps that the browser's Back undoes; it also shows what was in view then.

atlas.remember = (page) => {
  const root = document.documentElement,
    STEPS = ["p", "neuron", "sel", "beside"];
  let timer = 0,
    last = null, // the steps of the address that was written last
    own = location.hash,
    reads = 0,
    reading = false;

  function write(held = false) {
    // held: a key held down walks from point to point, which is one step
    clearTimeout(timer);
    if (reading) return; // the page has only a part of the state yet
    const view = page.scatter.seen();
    const parts = {
      v: page.moved ? view.map(Math.round).join(",") : null,
      ...page.finder.state(),
      ...page.card.state(),
      ...page.between.state(),
      ...page.legend.state(),
      ...page.selection.state(),
      lit: page.leading(),
      theme: root.dataset.theme || null,
    };
    const kept = new URLSearchParams(
      Object.entries(parts).filter(([, value]) => value !== null && value !== undefined),
    );
    own = String(kept) ? `#${String(kept).replaceAll("%2C", ",").replaceAll("%3B", ";")}` : "";
    const steps = Object.fromEntries(STEPS.map((name) => [name, parts[name] ?? null])),
      taken = last && !held && STEPS.some((name) => steps[name] !== last[name]);
    history[taken ? "pushState" : "replaceState"](
      { view, before: taken ? last.p : before() },
      "",
      own || location.pathname + location.search,
    );
    last = steps;
    const command = atlas.byId("figure"); // the command that draws this view as a figure
    if (command) command.textContent = command.dataset.command.replace("{}", own.replaceAll("'", "%27"));
  }
  function later() {
    // browsers refuse hundreds of changes a minute
    clearTimeout(timer);
    timer = setTimeout(() => write(), 250);
  }
  const before = () => history.state?.before ?? null; // the pick that the last step replaced
  async function read() {
    const hash = location.hash.slice(1);
    own = location.hash;
    if (hash && atlas.byId(hash)) return write(); // a link within the page changes nothing
    const turn = ++reads,
      state = new URLSearchParams(/^\d+$/.test(hash) ? `p=${hash}` : hash);
    const number = (name) => (/^\d+$/.test(state.get(name) || "") ? Number(state.get(name)) : -1);
    const view = (state.get("v") || "").split(",").map(Number),
      named = view.length === 3 && view.every(Number.isFinite) && view[2] > 0,
      seen = named ? view : history.state?.view; // of a step that Back or Forward returns to
    reading = true;
    if (["light", "dark"].includes(state.get("theme"))) root.dataset.theme = state.get("theme");
    if (seen) page.scatter.look(seen[0], seen[1], seen[2]);
    else page.scatter.all();
    page.moved = named;
    const steps = [
      () => page.legend.restore(state.get("c"), number("neuron"), state.get("hide")),
      () => page.finder.set(state.get("q") || "", state.get("by")),
      () => page.selection.restore(state.get("sel"), state.get("beside")),
      () => number("p") >= 0 && page.located(),
      () => state.get("way") && page.more(),
      () => page.between.restore(state.get("way")),
      () => {
        const i = page.pointOf[number("p")] ?? -1;
        return i < 0 ? page.card.close() : page.pick(i, !seen);
      },
      () => page.light(state.get("lit")),
    ];
    try {
      for (const step of steps) if (turn === reads) await step(); // an address may be followed by the next
    } finally {
      if (turn === reads) {
        reading = false;
        last = null; // what was read is no further step
        write();
      }
    }
  }
  addEventListener("hashchange", () => {
    if (location.hash !== own) read();
  });
  const figure = atlas.byId("figure")?.closest("details");
  figure?.addEventListener("toggle", () => figure.open && figure.scrollIntoView({ block: "nearest" }));
  atlas.one("[data-link]")?.addEventListener("click", ({ currentTarget }) => {
    write();
    const { left, top } = currentTarget.getBoundingClientRect();
    navigator.clipboard?.writeText(location.href).then(
      () => {
        atlas.byId("live").textContent = "Link copied";
        atlas.show(left - 120, top - 8, false, atlas.element("span", {}, "Link copied"));
        setTimeout(atlas.hide, 1200);
      },
      () => {},
    );
  });
  new MutationObserver(later).observe(root, { attributeFilter: ["data-theme"] });
  return { read, write, later, before };
};
