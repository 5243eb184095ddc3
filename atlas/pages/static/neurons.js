"use strict";
// The neuron atlas: neurons as the points of the map. Same members as atlas.whole, and what the map says of a neuron.

atlas.neurons = async () => {
  const { element } = atlas;
  const columns = await atlas.table("neurons");
  const { sheet, cell, top } = columns, k = top.width;
  const labels = columns.label.all(), said = columns.words.all(), n = labels.length;
  const all = Uint32Array.from({ length: n }, (_, i) => i);

  const picture = (j, tag, attributes, place) => element(`${tag}.t.s${sheet[j]}${place < 0 ? "" : ".m"}`, { "--n": cell[j], "--m": place, ...attributes });
  const thumb = (i, tag = "i", attributes = {}) => picture(i * k, tag, attributes, -1); // by what it answers to most
  const covers = (i) => Array.from({ length: k }, (_, at) => picture(i * k + at, "i", {}, columns.at[i * k + at]));
  const rows = {
    thumb,
    name: (i) => labels[i] || "no label",
    about: (i) => `neuron ${i}`,
    spot: (i) => ({ sheet: sheet[i * k], x: cell[i * k] % atlas.SHEET, y: Math.floor(cell[i * k] / atlas.SHEET) }),
  };
  // A number is a neuron's own. Words are looked for in labels, and then at the beginnings of words that it answers to most.
  const lower = labels.map((label) => label.toLowerCase()), beside = said.map((text) => ` ${text.toLowerCase()}`);
  function find(wanted) {
    const numbers = wanted.filter((word) => /^\d+$/.test(word)), letters = wanted.filter((word) => !numbers.includes(word)), keys = [];
    for (const i of all) {
      if (!numbers.every((word) => Number(word) === i)) continue;
      const labelled = letters.every((word) => lower[i].includes(word));
      if (!labelled && !letters.every((word) => lower[i].includes(word) || beside[i].includes(` ${word}`))) continue;
      keys.push((atlas.rank(letters)(lower[i]) + (labelled ? 0 : 100_000)) * n + i);
    }
    return atlas.ranked(keys, n);
  }
  return { rows, columns, labels, said, covers, n, all, find };
};

// What the map's parts ask of neurons as they do of rows.
atlas.source = async (settings) => {
  const { element } = atlas;
  const [found, traits, regions] = await Promise.all([atlas.neurons(), atlas.table("traits"), atlas.table("regions")]);
  const { rows, columns, labels, said, covers, n, all } = found, { palette, ramp } = atlas.json("figure");
  const points = { x: columns.x, y: columns.y, row: all, code: new Uint8Array(n) };
  const page = { ...found, points, pointOf: all, order: atlas.scattered(all), regions, side: 34 };
  const CROWD = 150; // pictures would hide the colours one asked for where there are more

  // -- traits: the legend's entries, and what is said of one neuron ----------------------------------------------------------

  const figure = (value) => (Number.isNaN(value) ? "–" : String(Number(value.toPrecision(3))).replace("-", "−"));
  const scheme = ({ name, said: about, entries, hues }) => {
    const counts = new Uint32Array(entries.length);
    for (const entry of traits[name]) counts[entry]++;
    return { said: about, of: (i) => traits[name][i], code: (entry) => hues[entry],
      entries: entries.map((text, entry) => ({ name: text, count: counts[entry], hue: [...palette, ...ramp][hues[entry]], shown: true })) };
  };
  page.schemes = Object.fromEntries(settings.traits.map((trait) => [trait.name, scheme(trait)]));
  const value = ({ name, entries }, i) => (traits[`${name}.values`] ? figure(traits[`${name}.values`][i]) : entries[traits[name][i]]);
  const chosen = () => settings.traits.find(({ name }) => name === page.legend.colour());
  const about = (i) => [said[i] && said[i] !== labels[i] ? `Words: ${said[i]}` : "", chosen() ? `${chosen().title}: ${value(chosen(), i)}` : ""]
    .filter(Boolean).map((line) => element("small.caption", {}, line));

  // -- how neurons are shown -------------------------------------------------------------------------------------------------

  page.room = () => (page.legend?.state().c ? CROWD : Infinity);
  page.hint = (i) => [element("div", {}, element("strong.caption", {}, rows.name(i)), element("small", {}, rows.about(i))), element("div.row", {}, ...covers(i)), ...about(i)];
  page.nearest = "Neurons that answer alike";
  page.cited = (i) => rows.about(i);
  page.parts = (i) => [
    element("p.ways", {}, element("a", { href: atlas.address(i) }, "Open its card"), settings.map ? element("a", { href: `${settings.map}#neuron=${i}` }, "What drives it, on the map") : null),
    element("div", {}, element("h3", {}, "Answers most to"), element("div.strip", {}, ...covers(i))),
    element("div.said", {}, ...about(i)),
  ];
  page.named = (names, at) => { // a name stays while any is shown of the neurons that carry it
    if (!page.legend.hidden()) return true;
    const { of } = regions, levels = of.width;
    return all.some((i) => of[i * levels + names.level[at]] === at + 1 && page.legend.visible(i));
  };
  page.table = {
    heads: ["Label", "Neuron"],
    cells: (i) => [String(i)],
    record: (i) => ({ neuron: i, label: labels[i], words: said[i], ...Object.fromEntries(settings.traits.map(({ name, entries }) => {
      const figures = traits[`${name}.values`];
      return [name, !figures ? entries[traits[name][i]] : Number.isNaN(figures[i]) ? null : Number(figures[i].toPrecision(6))];
    })) }),
  };
  page.listed = (hits) => { // the table of all holds what was found and is shown
    const inside = hits && new Set(hits);
    atlas.list.cut((i) => (!inside || inside.has(i)) && page.legend.visible(i));
  };

  // -- all of them are there from the start ------------------------------------------------------------------------------------

  const near = (i) => (columns.near ? [...columns.near.subarray(i * columns.near.width, (i + 1) * columns.near.width)] : []);
  const none = async () => {};
  return Object.assign(page, { near, need: none, more: none, located: none, bring: none, neurons: () => [], number: (i) => i, known: () => true, placed: () => true,
    each: async (list, of) => Array.from(list, (i) => of(i)), gather: async (box, keep) => [...all].filter(keep) });
};

// A neuron's own address of earlier days, neurons.html#neuron=12, is that of its point.
(() => {
  const renamed = () => { if (location.hash.includes("neuron=")) history.replaceState(null, "", location.hash.replace("neuron=", "p=")); };
  addEventListener("hashchange", renamed);
  renamed();
})();

// Where neurons were not laid out the box cuts the table alone.
if (!document.getElementById("map")) atlas.neurons().then(({ find, all }) => {
  const query = document.getElementById("query"), said = document.getElementById("found");
  let found = all;
  query.addEventListener("input", () => {
    const wanted = atlas.words(query.value);
    found = wanted.length ? find(wanted) : all;
    const inside = new Set(found);
    atlas.list.cut((i) => inside.has(i));
    said.textContent = wanted.length ? `${found.length.toLocaleString("en")} found` : "";
  });
  query.addEventListener("keydown", (event) => { if (event.key === "Enter" && found.length) location.href = atlas.address(found[0]); });
  document.body.dataset.ready = "";
});
