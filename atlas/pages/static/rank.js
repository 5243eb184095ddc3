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

// The search for neurons: a number finds that neuron. Words are looked for in labels, then at the beginnings of what
// its strongest pictures show and of its strongest words.
atlas.neuronFinder = (columns) => {
  const [lower, words, shows] = ["label", "words", "shows"].map((name) =>
    columns[name].all().map((text) => ` ${text.toLowerCase()}`),
  );
  const n = lower.length;
  return (wanted) => {
    const numbers = wanted.filter((word) => /^\d+$/.test(word)),
      letters = wanted.filter((word) => !numbers.includes(word)),
      keys = [];
    for (let i = 0; i < n; i++) {
      if (!numbers.every((word) => Number(word) === i)) continue;
      const holds = (text) => letters.every((word) => text.includes(` ${word}`));
      const labelled = letters.every((word) => lower[i].includes(word));
      if (!labelled && !holds(lower[i] + shows[i] + words[i])) continue;
      const shown = shows[i].split(", ").findIndex((thing) => holds(` ${thing.trim()}`)); // the stronger, the sooner
      const key = labelled ? atlas.rank(letters)(lower[i]) : shown >= 0 ? 100_000 + shown : 200_000;
      keys.push(key * n + i);
    }
    return atlas.ranked(keys, n);
  };
};
