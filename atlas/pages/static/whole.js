"use strict";
// All points at once: what a map of up to half a million reads when it opens. Same members as atlas.tiles.

// Points in a scattered order, so that no kind lies wholly on top of another, and the first are a fair part of all.
atlas.scattered = (of) => {
  const n = of.length, shared = (a, b) => (b ? shared(b, a % b) : a);
  let stride = Math.floor(n * 0.6180339) | 1;
  while (shared(n, stride) > 1) stride += 2;
  return Uint32Array.from({ length: n }, (_, i) => of[(i * stride) % n]);
};

atlas.whole = async (settings) => {
  const [columns, points] = await Promise.all([atlas.table("rows"), atlas.table("map")]), rows = new atlas.Rows(columns, settings.kinds);
  const n = points.x.length, pointOf = new Int32Array(rows.length).fill(-1);
  points.row.forEach((row, i) => { pointOf[row] = i; });
  points.code = new Uint8Array(n);
  const order = atlas.scattered(Uint32Array.from({ length: n }, (_, i) => i));
  let captions = null, haystack = null, beside = null;

  const need = () => (captions ||= atlas.table("captions").then((texts) => Object.assign(rows, texts)));
  async function more() { // what lies near, and which neurons answer: wanted by cards alone
    if (settings.tables.near) beside = await atlas.table("near");
  }
  function near(i) { // points
    const k = beside?.near?.width || 0;
    return k ? Array.from(beside.near.subarray(i * k, (i + 1) * k), (row) => pointOf[row]).filter((other) => other >= 0) : [];
  }
  function neurons(i) { // pairs of neuron and tenths of a standard deviation
    const k = beside?.neuron?.width || 0, of = (name) => beside[name].subarray(i * k, (i + 1) * k);
    return k ? Array.from(of("neuron"), (neuron, at) => [neuron, of("strength")[at]]).filter(([neuron]) => neuron >= 0) : [];
  }
  // Whole levels are searched, not points: a caption that many share is looked at once.
  async function find(wanted) {
    await need();
    haystack ||= [rows.captions.all(), rows.groups.all()].map((all) => all.map((text) => text.toLowerCase()));
    const tests = wanted.map((word) => haystack.map((level) => Uint8Array.from(level, (text) => text.includes(word))));
    const rank = atlas.rank(wanted), ranks = new Int32Array(haystack[0].length).fill(-1), keys = [];
    for (let i = 0; i < n; i++) {
      const row = points.row[i], code = rows.caption[row];
      if (!tests.every(([caption, group]) => caption[code] || group[rows.group[row]])) continue;
      if (ranks[code] < 0) ranks[code] = rank(haystack[0][code]);
      keys.push(ranks[code] * n + i);
    }
    return atlas.ranked(keys, n);
  }
  async function each(list, of) { // what `of` says of every point of a list
    await need();
    return Array.from(list, (i) => of(i));
  }
  const gather = async (box, keep) => [...points.x.keys()].filter(keep); // the points of a box that one keeps, in order
  return { rows, points, n, pointOf, order, need, more, near, neurons, find, each, gather, located: async () => {}, bring: async () => {}, placed: () => true, number: (i) => points.row[i], known: () => Boolean(rows.captions) };
};
