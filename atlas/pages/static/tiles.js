"use strict";
// More points than can be read at once: an even sample of all to begin with, and tiles, each a script, that come as one
// looks closer. Points are numbered tile by tile; `rows` is asked by that number too. Same members as atlas.whole.

atlas.tiles = async (settings) => {
  const KEPT = 48, CLOSE = 16; // tiles whose captions stay in memory; tiles in view from which on a view is not close
  const first = await atlas.table("overview");
  const { ends, box } = first, n = ends.at(-1), tiles = ends.length - 1;
  const like = (column, fill = 0) => column && new column.constructor(n).fill(fill);
  const points = { x: like(first.x), y: like(first.y), kept: like(first.kept, 255), code: new Uint8Array(n), row: Uint32Array.from({ length: n }, (_, i) => i) };
  const rows = new atlas.Rows({ kind: like(first.kind), group: like(first.group), groups: first.groups, sheet: like(first.sheet, -1), cell: like(first.cell) }, settings.kinds);
  const here = new Map(), coming = new Map(); // tiles that are there, the latest last, and those asked for
  const drawn = new Uint8Array(n), taken = new Uint8Array(tiles); // points whose place is known, tiles that were read once
  const pointOf = []; // filled by `located`
  let where = null;

  function take(table, at) { // what is drawn of points stays; at(k) is the number of the table's k-th
    for (const [column, from] of [[points.x, "x"], [points.y, "y"], [points.kept, "kept"], [rows.kind, "kind"], [rows.group, "group"], [rows.sheet, "sheet"], [rows.cell, "cell"]])
      if (column) for (let k = 0; k < table.x.length; k++) column[at(k)] = table[from][k];
    for (let k = 0; k < table.x.length; k++) drawn[at(k)] = 1;
  }
  take(first, (k) => first.point[k]);

  function tileOf(i) {
    let [low, high] = [0, tiles];
    while (high - low > 1) { const middle = (low + high) >> 1; if (ends[middle] <= i) low = middle; else high = middle; }
    return low;
  }
  async function read(t) {
    const name = `tile-${t}`, table = await atlas.table(name);
    take(table, (k) => ends[t] + k);
    taken[t] = 1;
    here.set(t, table);
    coming.delete(t);
    atlas.forget(name);
    for (const oldest of here.keys()) { if (here.size <= KEPT) break; here.delete(oldest); }
    return table;
  }
  function tile(t) {
    if (!here.has(t)) { if (!coming.has(t)) coming.set(t, read(t)); return coming.get(t); }
    const table = here.get(t);
    here.delete(t);
    here.set(t, table);
    return table;
  }
  const of = (i, name) => { // the values of a point in a column of its tile
    const t = tileOf(i), column = here.get(t)?.[name], k = column?.width || 1;
    return column && column.subarray((i - ends[t]) * k, (i - ends[t] + 1) * k);
  };
  rows.name = (i) => { const t = tileOf(i); return here.get(t)?.caption.at(i - ends[t]) ?? "…"; };
  const known = (i) => here.has(tileOf(i));
  const need = (list) => Promise.all([...new Set(Array.from(list, tileOf))].slice(0, KEPT).map(tile));
  // What `of` says of every point of a list, asked while its tile is at hand: they may lie in more tiles than are kept.
  async function each(list, of) {
    const found = new Array(list.length), parts = new Map();
    list.forEach((i, at) => { const t = tileOf(i); if (!parts.has(t)) parts.set(t, []); parts.get(t).push(at); });
    const all = [...parts];
    for (let k = 0; k < all.length; k += CLOSE) {
      const some = all.slice(k, k + CLOSE);
      await Promise.all(some.map(([t]) => tile(t)));
      for (const [, members] of some) for (const at of members) found[at] = of(list[at]);
    }
    return found;
  }
  const placed = (i) => drawn[i] === 1;
  const bring = (list) => each(Array.from(list).filter((i) => !placed(i)), placed); // so that all have their places
  const near = (i) => Array.from(of(i, "near") || []).filter((other) => other < n);
  const neurons = (i) => Array.from(of(i, "neuron") || [], (neuron, at) => [neuron, of(i, "strength")[at]]).filter(([neuron]) => neuron >= 0);

  const touching = ({ x0, y0, x1, y1 }) => Array.from({ length: tiles }, (_, t) => t).filter((t) => box[4 * t] <= x1 && box[4 * t + 2] >= x0 && box[4 * t + 1] <= y1 && box[4 * t + 3] >= y0);
  // The points of the tiles that a view touches, once they have come; null where it touches many.
  async function inside(view) {
    const touched = touching(view);
    if (touched.length > CLOSE) return null;
    await Promise.all(touched.map(tile));
    return touched.flatMap((t) => Array.from({ length: ends[t + 1] - ends[t] }, (_, k) => ends[t] + k));
  }
  // All points of a box that one keeps, drawn or not, in order; `report` as below.
  async function gather(within, keep, report) {
    const touched = touching(within), found = [];
    for (const [k, t] of touched.entries()) {
      if (!taken[t]) await tile(t);
      for (let i = ends[t]; i < ends[t + 1]; i++) if (keep(i)) found.push(i);
      if (report((k + 1) / touched.length, found.length) === false) break;
    }
    return found;
  }
  // Every tile is read in turn, and what it holds ranked: `report` is told how far, and ends the search by answering false.
  async function find(wanted, report) {
    const group = first.groups.all().map((text) => text.toLowerCase()), rank = atlas.rank(wanted), keys = [];
    for (let t = 0; t < tiles; t++) {
      const table = await tile(t);
      for (let i = ends[t]; i < ends[t + 1]; i++) {
        const text = table.caption.at(i - ends[t]).toLowerCase();
        if (wanted.every((word) => text.includes(word) || group[rows.group[i]].includes(word))) keys.push(rank(text) * n + i);
      }
      if (report((t + 1) / tiles, keys.length) === false) break;
    }
    return atlas.ranked(keys, n);
  }
  // Rows of the Store by their numbers there: a table of its own, wanted by links and by what names rows.
  const located = () => (where ||= atlas.table("where").then(({ point }) => point.forEach((i, row) => { if (i < n) pointOf[row] = i; })));
  return { rows, points, n, pointOf, order: atlas.scattered(first.point), counts: first, need, more: async () => {}, near, neurons, inside, find, each, gather, located, bring, placed, number: (i) => of(i, "row")?.[0] ?? -1, known };
};
