// @ts-check
"use strict";
// The order in which hits are listed.

// Captions that hold the query as whole words come first, and of these the shortest:
// “cat” before “cat face” before “application”.
atlas.rank = (wanted) => (text) => {
  const parts = new Set(text.split(/[^\p{L}\p{N}]+/u));
  return 1000 * wanted.filter((word) => !parts.has(word)).length + text.length;
};
// Points sorted by rank, then by number. A key is rank * n + number, because plain numbers sort fast.
atlas.ranked = (keys, n) => Array.from(Float64Array.from(keys).sort(), (key) => key % n);
