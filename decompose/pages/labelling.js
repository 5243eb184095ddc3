// @ts-check
"use strict";
// The page on which a person labels a neuron's stimuli: a key answers and moves on; answers stay in the browser.

/**
 * What Python writes into the element #data; `LabellingData` in decompose/studies/labelling.py has the same fields.
 * @typedef {object} LabellingData
 * @property {string} store sha256 of the Store
 * @property {number} neuron
 * @property {string[]} categories
 * @property {{row: number, picture: string}[]} stimuli in the order in which they are shown
 */

(() => {
  const byId = (id) => document.getElementById(id);
  /** @type {LabellingData} */
  const data = JSON.parse(byId("data").textContent);
  const { stimuli, ...facts } = data;
  const picture = /** @type {HTMLImageElement} */ (byId("picture"));
  const choices = [...document.querySelectorAll("#choices button")];
  const key = `labels ${facts.store} ${facts.neuron} ${JSON.stringify(facts.categories)}`;
  let answers = {};
  try {
    answers = JSON.parse(localStorage.getItem(key)) || {};
  } catch {
    answers = {};
  }
  const first = stimuli.findIndex((one) => !(one.row in answers));
  let at = first < 0 ? stimuli.length - 1 : first;

  function show() {
    const one = stimuli[at];
    picture.src = one.picture;
    byId("place").textContent = `${at + 1} of ${stimuli.length}, ${Object.keys(answers).length} labelled`;
    choices.forEach((button, i) => button.setAttribute("aria-pressed", String(answers[one.row] === i)));
  }
  function move(step) {
    at = Math.min(Math.max(at + step, 0), stimuli.length - 1);
    show();
  }
  function label(answer) {
    answers[stimuli[at].row] = answer;
    try {
      localStorage.setItem(key, JSON.stringify(answers));
    } catch {
      /* a browser that keeps nothing: export at the end */
    }
    move(1);
  }
  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify({ ...facts, answers })], { type: "application/json" }));
    link.download = `labels-${facts.neuron}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  choices.forEach((button, i) => button.addEventListener("click", () => label(i)));
  byId("back").addEventListener("click", () => move(-1));
  byId("on").addEventListener("click", () => move(1));
  byId("export").addEventListener("click", save);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const answer = Number(event.key) - 1;
    if (Number.isInteger(answer) && answer >= 0 && answer < choices.length) label(answer);
    else if (event.key === "ArrowLeft") move(-1);
    else if (event.key === "ArrowRight") move(1);
  });
  show();
})();
