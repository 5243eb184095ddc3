"use strict";
// The order in which what was found is listed.

// Captions that hold the words as whole words come first, of these the shortest: “cat” before “cat face” before “application”.
atlas.rank = (wanted) => (text) => {
  const parts = new Set(text.split(/[^\p{L}\p{N}]+/u));
  return 1000 * wanted.filter((word) => !parts.has(word)).length + text.length;
};
// Points by their rank and then their number, of n, each given as rank * n + number: numbers sort fast.
atlas.ranked = (keys, n) => Array.from(Float64Array.from(keys).sort(), (key) => key % n);
