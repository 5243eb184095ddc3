// @ts-check
"use strict";
// The source of a map with more points than can be read at once: an even sample of all, and tiles, each a script, that
// are read when the reader zooms in. Points are numbered tile by tile; `rows` is asked by that number too.

atlas.tiles = async (settings) => {
  const KEPT = 48, // tiles whose captions stay in memory
    CLOSE = 16; // a view is close if it touches at most so many tiles
  const first = await atlas.table("overview");
  const { ends, box } = first,
    n = ends.at(-1),
    tiles = ends.length - 1;
  const like = (column, fill = 0) => column && new column.constructor(n).fill(fill);
  const points = {
    x: like(first.x),
    y: like(first.y),
    kept: like(first.kept, 255),
    code: new Uint8Array(n),
    row: Uint32Array.from({ length: n }, (_, i) => i),
  };
  const rows = new atlas.Rows(
    {
      kind: like(first.kind),
      group: like(first.group),
      groups: first.groups,
      sheet: like(first.sheet, -1),
      cell: like(first.cell),
    },
    settings.kinds,
  );
  const here = new Map(), // tiles in memory, the latest last
    coming = new Map(); // tiles that are being read
  const drawn = new Uint8Array(n), // 1 for points whose place is known
    taken = new Uint8Array(tiles); // 1 for tiles that were read once
  const pointOf = []; // filled by `located`
  let where = null;

  function take(table, at) {
    // copies what drawing needs; at(k) is the point of the table's k-th entry
    for (const [column, from] of [
      [points.x, "x"],
      [points.y, "y"],
      [points.kept, "kept"],
      [rows.kind, "kind"],
      [rows.group, "group"],
      [rows.sheet, "sheet"],
      [rows.cell, "cell"],
    ])
      if (column) for (let k = 0; k < table.x.length; k++) column[at(k)] = table[from][k];
    for (let k = 0; k < table.x.length; k++) drawn[at(k)] = 1;
  }
  take(first, (k) => first.point[k]);

  function tileOf(i) {
    let [low, high] = [0, tiles];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (ends[middle] <= i) low = middle;
      else high = middle;
    }
    return low;
  }
  async function read(t) {
    const name = `tile-${t}`,
      table = await atlas.table(name);
    take(table, (k) => ends[t] + k);
    taken[t] = 1;
    here.set(t, table);
    coming.delete(t);
    atlas.forget(name);
    for (const oldest of here.keys()) {
      if (here.size <= KEPT) break;
      here.delete(oldest);
    }
    return table;
  }
  function tile(t) {
    if (!here.has(t)) {
      if (!coming.has(t)) coming.set(t, read(t));
      return coming.get(t);
    }
    const table = here.get(t);
    here.delete(t);
    here.set(t, table);
    return table;
  }
  const of = (i, name) => {
    // the values of a point in a column of its tile
    const t = tileOf(i),
      column = here.get(t)?.[name],
      k = column?.width || 1;
    return column && column.subarray((i - ends[t]) * k, (i - ends[t] + 1) * k);
  };
  rows.name = (i) => {
    const t = tileOf(i);
    return here.get(t)?.caption.at(i - ends[t]) ?? "…";
  };
  const known = (i) => here.has(tileOf(i));
  const need = (list) => Promise.all([...new Set(Array.from(list, tileOf))].slice(0, KEPT).map(tile));
  // Calls `of` for every point while its tile is in memory: a list may touch more tiles than are kept.
  async function each(list, of) {
    const found = new Array(list.length),
      parts = new Map();
    list.forEach((i, at) => {
      const t = tileOf(i);
      if (!parts.has(t)) parts.set(t, []);
      parts.get(t).push(at);
    });
    const all = [...parts];
    for (let k = 0; k < all.length; k += CLOSE) {
      const some = all.slice(k, k + CLOSE);
      await Promise.all(some.map(([t]) => tile(t)));
      for (const [, members] of some) for (const at of members) found[at] = of(list[at]);
    }
    return found;
  }
  const placed = (i) => drawn[i] === 1;
  const bring = (list) =>
    each(
      Array.from(list).filter((i) => !placed(i)),
      placed,
    );
  const near = (i) => Array.from(of(i, "near") || []).filter((other) => other < n);
  /** @returns {[number, number][]} */
  const neurons = (i) =>
    Array.from(
      of(i, "neuron") || [],
      (neuron, at) => /** @type {[number, number]} */ ([neuron, of(i, "strength")[at]]),
    ).filter(([neuron]) => neuron >= 0);

  const touching = ({ x0, y0, x1, y1 }) =>
    Array.from({ length: tiles }, (_, t) => t).filter(
      (t) => box[4 * t] <= x1 && box[4 * t + 2] >= x0 && box[4 * t + 1] <= y1 && box[4 * t + 3] >= y0,
    );
  // The points of the tiles that a view touches; null where it touches many.
  async function inside(view) {
    const touched = touching(view);
    if (touched.length > CLOSE) return null;
    await Promise.all(touched.map(tile));
    return touched.flatMap((t) => Array.from({ length: ends[t + 1] - ends[t] }, (_, k) => ends[t] + k));
  }
  // All points of a box for which `keep` is true, drawn or not, in order; `report` as below.
  async function gather(within, keep, report) {
    const touched = touching(within),
      found = [];
    for (const [k, t] of touched.entries()) {
      if (!taken[t]) await tile(t);
      for (let i = ends[t]; i < ends[t + 1]; i++) if (keep(i)) found.push(i);
      if (report((k + 1) / touched.length, found.length) === false) break;
    }
    return found;
  }
  // Reads every tile in turn and ranks its hits. `report` is told how far the search is and returns false to end it.
  async function find(wanted, report) {
    const group = first.groups.all().map((text) => text.toLowerCase()),
      rank = atlas.rank(wanted),
      keys = [];
    for (let t = 0; t < tiles; t++) {
      const table = await tile(t);
      for (let i = ends[t]; i < ends[t + 1]; i++) {
        const text = table.caption.at(i - ends[t]).toLowerCase();
        if (wanted.every((word) => text.includes(word) || group[rows.group[i]].includes(word)))
          keys.push(rank(text) * n + i);
      }
      if (report((t + 1) / tiles, keys.length) === false) break;
    }
    return atlas.ranked(keys, n);
  }
  // The point of each row of the Store: a table of its own, which links and the search by meaning need.
  const located = () =>
    (where ||= atlas.table("where").then(({ point }) =>
      point.forEach((i, row) => {
        if (i < n) pointOf[row] = i;
      }),
    ));
  const columns = { kind: rows.kind, group: rows.group, kept: points.kept };
  return {
    reader: (name) => (i) => columns[name][i],
    rows,
    points,
    n,
    pointOf,
    order: atlas.scattered(first.point),
    need,
    more: async () => {},
    near,
    neurons,
    inside,
    find,
    each,
    gather,
    located,
    bring,
    placed,
    number: (i) => of(i, "row")?.[0] ?? -1,
    known,
  };
};
