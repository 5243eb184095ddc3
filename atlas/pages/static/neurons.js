// @ts-check
"use strict";
// The page of neurons: the search of its table and, where neurons have a map, its points and how they are shown.

atlas.neurons = async () => {
  const { element } = atlas;
  const columns = await atlas.table("neurons");
  const { sheet, cell, top } = columns,
    k = top.width;
  const labels = columns.label.all(),
    said = columns.words.all(),
    n = labels.length;
  const all = Uint32Array.from({ length: n }, (_, i) => i);

  const picture = (j, tag, attributes) => element(`${tag}.t.s${sheet[j]}`, { "--n": cell[j], ...attributes });
  const thumb = (i, tag = "i", attributes = {}) => picture(i * k, tag, attributes);
  const covers = (i) => Array.from({ length: k }, (_, at) => picture(i * k + at, "i", {}));
  const rows = {
    thumb,
    name: (i) => labels[i] || "no label",
    about: (i) => `neuron ${i}`,
    spot: (i) => ({ sheet: sheet[i * k], ...atlas.cellPlace(cell[i * k]) }),
  };
  const find = atlas.neuronFinder(columns);
  return { rows, columns, labels, words: said, covers, n, all, find };
};

atlas.neuronSource = async () => {
  const [table, traits] = await Promise.all([atlas.neurons(), atlas.table("traits")]);
  const { rows, columns, n, all, find } = table,
    k = columns.near?.width || 0;
  const none = async () => {};
  return {
    rows,
    points: { x: columns.x, y: columns.y, row: all, code: new Uint8Array(n) },
    n,
    pointOf: all,
    order: atlas.scattered(all),
    reader: (name) => (i) => traits[name][i],
    need: none,
    more: none,
    located: none,
    bring: none,
    near: (i) => (k ? [...columns.near.subarray(i * k, (i + 1) * k)] : []),
    neurons: () => [],
    inside: async () => null,
    find,
    each: async (list, of) => Array.from(list, (i) => of(i)),
    gather: async (_box, keep) => [...all].filter(keep),
    placed: () => true,
    number: (i) => i,
    known: () => true,
  };
};

atlas.neuronView = async (page) => {
  const { element } = atlas;
  const { settings, rows } = page;
  const [{ labels, words, covers, all }, traits, regions, outlines] = await Promise.all([
    atlas.neurons(),
    atlas.table("traits"),
    atlas.table("regions"),
    atlas.table("outlines"),
  ]);

  // -- traits of one neuron -------------------------------------------------------------------------------------------

  const figure = (value) => (Number.isNaN(value) ? "–" : String(Number(value.toPrecision(3))).replace("-", "−"));
  const entry = ({ name, entries }, i) => entries[traits[name][i]].name;
  const value = (trait, i) =>
    traits[`${trait.name}.values`] ? figure(traits[`${trait.name}.values`][i]) : entry(trait, i);
  function record(trait, i) {
    const values = traits[`${trait.name}.values`];
    if (!values) return entry(trait, i);
    return Number.isNaN(values[i]) ? null : Number(values[i].toPrecision(6));
  }
  const chosen = () => settings.legend.find(({ name }) => name === page.legend.colour());
  const about = (i) =>
    [
      words[i] && words[i] !== labels[i] ? `Words: ${words[i]}` : "",
      chosen() ? `${chosen().title}: ${value(chosen(), i)}` : "",
    ]
      .filter(Boolean)
      .map((line) => element("small.caption", {}, line));

  return {
    isWritten: () => false,
    isSlanted: () => false,
    side: 34,
    room: () => Infinity,
    frame: () => (page.legend?.state().c ? 3.5 : 1.5), // a colour frames the picture
    hint: (i) => ({
      many: true,
      nodes: [
        element("div", {}, element("strong.caption", {}, rows.name(i)), element("small", {}, rows.about(i))),
        element("div.row", {}, ...covers(i)),
        ...about(i),
      ],
    }),
    nearest: "Neurons with similar responses",
    cited: (i) => rows.about(i),
    parts: (i) => [
      element(
        "p.ways",
        {},
        element("a", { href: atlas.address(i) }, "Open its card"),
        settings.map
          ? element("a", { href: `${settings.map}#neuron=${i}` }, "Show on the map what activates it")
          : null,
      ),
      element("div", {}, element("h3", {}, "Activated most by"), element("div.strip", {}, ...covers(i))),
      element("div.said", {}, ...about(i)),
    ],
    named: (names, at) => {
      // a name stays while any is shown of the neurons that carry it
      if (!page.legend.hidden()) return true;
      const { of } = regions,
        levels = of.width;
      return all.some((i) => of[i * levels + names.level[at]] === at + 1 && page.legend.visible(i));
    },
    table: {
      heads: ["Label", "Neuron"],
      cells: (i) => [String(i)],
      record: (i) => ({
        neuron: i,
        label: labels[i],
        words: words[i],
        ...Object.fromEntries(settings.legend.map((trait) => [trait.name, record(trait, i)])),
      }),
    },
    listed: (hits) => {
      // the table of all neurons lists those that were found and are shown
      const inside = hits && new Set(hits);
      atlas.list.cut((i) => (!inside || inside.has(i)) && page.legend.visible(i));
    },
    regions: async () => ({ ...regions, outlines }),
  };
};

// The old address of a neuron, neurons.html#neuron=12, is that of its point, neurons.html#p=12.
(() => {
  const renamed = () => {
    if (location.hash.includes("neuron=")) history.replaceState(null, "", location.hash.replace("neuron=", "p="));
  };
  addEventListener("hashchange", renamed);
  renamed();
})();

// Without a map of neurons, the search filters the table.
if (!atlas.byId("map"))
  atlas.neurons().then(({ find, all }) => {
    const query = atlas.byId("query"),
      said = atlas.byId("found");
    let found = [...all];
    query.addEventListener("input", () => {
      const wanted = atlas.words(query.value);
      found = wanted.length ? find(wanted) : [...all];
      const inside = new Set(found);
      atlas.list.cut((i) => inside.has(i));
      said.textContent = wanted.length ? `${found.length.toLocaleString("en")} found` : "";
    });
    query.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && found.length) location.href = atlas.address(found[0]);
    });
    document.body.dataset.ready = "";
  });
