// @ts-check
"use strict";
// The source of a map that reads all points when it opens.

// Points in a scattered order: no kind covers another, and the first points are a fair sample of all.
atlas.scattered = (of) => {
  const n = of.length,
    shared = (a, b) => (b ? shared(b, a % b) : a);
  let stride = Math.floor(n * 0.6180339) | 1;
  while (shared(n, stride) > 1) stride += 2;
  return Uint32Array.from({ length: n }, (_, i) => of[(i * stride) % n]);
};

atlas.whole = async (settings) => {
  const [table, points] = await Promise.all([atlas.table("rows"), atlas.table("map")]),
    rows = new atlas.Rows(table, settings.kinds);
  const n = points.x.length,
    pointOf = new Int32Array(rows.length).fill(-1);
  points.row.forEach((row, i) => {
    pointOf[row] = i;
  });
  points.code = new Uint8Array(n);
  const order = atlas.scattered(Uint32Array.from({ length: n }, (_, i) => i));
  let captions = null,
    haystack = null,
    beside = null;

  const need = () => (captions ||= atlas.table("captions").then((texts) => Object.assign(rows, texts)));
  async function more() {
    // neighbours and neurons, which only cards show
    if (settings.tables.near) beside = await atlas.table("near");
  }
  function near(i) {
    const k = beside?.near?.width || 0;
    return k
      ? Array.from(beside.near.subarray(i * k, (i + 1) * k), (row) => pointOf[row]).filter(
          (other) => other >= 0 && other !== i,
        )
      : [];
  }
  /** @returns {[number, number][]} */
  function neurons(i) {
    const k = beside?.neuron?.width || 0,
      of = (name) => beside[name].subarray(i * k, (i + 1) * k);
    return k
      ? Array.from(of("neuron"), (neuron, at) => /** @type {[number, number]} */ ([neuron, of("strength")[at]])).filter(
          ([neuron]) => neuron >= 0,
        )
      : [];
  }
  // Searches distinct captions, so that a caption of many points is tested once.
  async function find(wanted) {
    await need();
    haystack ||= [rows.captions.all(), rows.groups.all()].map((all) => all.map((text) => text.toLowerCase()));
    const tests = wanted.map((word) => haystack.map((level) => Uint8Array.from(level, (text) => text.includes(word))));
    const rank = atlas.rank(wanted),
      ranks = new Int32Array(haystack[0].length).fill(-1),
      keys = [];
    for (let i = 0; i < n; i++) {
      const row = points.row[i],
        code = rows.caption[row];
      if (!tests.every(([caption, group]) => caption[code] || group[rows.group[row]])) continue;
      if (ranks[code] < 0) ranks[code] = rank(haystack[0][code]);
      keys.push(ranks[code] * n + i);
    }
    return atlas.ranked(keys, n);
  }
  async function each(list, of) {
    await need();
    return Array.from(list, (i) => of(i));
  }
  const columns = { kind: rows.kind, group: rows.group };
  const reader = (name) => (name === "kept" ? (i) => points.kept[i] : (i) => columns[name][points.row[i]]);
  return {
    rows,
    points,
    n,
    pointOf,
    order,
    need,
    more,
    near,
    neurons,
    find,
    each,
    reader,
    gather: async (_box, keep) => [...points.x.keys()].filter(keep),
    inside: async () => null,
    located: async () => {},
    bring: async () => {},
    placed: () => true,
    number: (i) => points.row[i],
    known: () => Boolean(rows.captions),
  };
};
