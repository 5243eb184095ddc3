// @ts-check
"use strict";
// Search by captions that hold the typed words, or by meaning: the rows nearest to a text of the vocabulary. Neurons
// and regions that the words name are listed above the rows.

atlas.find = (page) => {
  const { element, words } = atlas;
  const { rows, points } = page;
  const byId = (id) => atlas.byId(id);
  const query = byId("query"),
    LISTED = 60,
    PLACEHOLDER = query.placeholder;
  let meaning = null,
    by = "caption",
    hits = null,
    asked = 0;

  function line(i, note = "") {
    const row = points.row[i];
    return element(
      "button.line",
      { type: "button", onclick: () => page.pick(i, true) },
      rows.thumb(row),
      element("span.caption", {}, rows.name(row)),
      element("small", {}, note || rows.about(row)),
    );
  }

  // The texts of the vocabulary that match the query: the whole, else its words, else a text that begins with it.
  async function texts(wanted) {
    if (!meaning) {
      const table = await atlas.table("meaning");
      const all = table.texts.all();
      meaning = { table, all, lower: new Map(all.map((text, t) => [text.toLowerCase(), t])) };
    }
    const { lower, all } = meaning,
      whole = lower.get(wanted.join(" "));
    if (whole !== undefined) return [whole];
    const known = wanted.map((word) => lower.get(word)).filter((t) => t !== undefined);
    if (known.length) return known;
    const starts = all.findIndex((text) => text.toLowerCase().startsWith(wanted.join(" ")));
    const holds = starts >= 0 ? starts : all.findIndex((text) => words(text).includes(wanted.at(-1)));
    return holds < 0 ? [] : [holds];
  }
  async function meanings(wanted) {
    const [of] = await Promise.all([texts(wanted), page.located()]),
      k = meaning.table.hit.width,
      scores = new Map();
    for (const t of of)
      for (let at = t * k; at < (t + 1) * k; at++) {
        const i = page.pointOf[meaning.table.hit[at]];
        if (i >= 0) scores.set(i, (scores.get(i) || 0) + meaning.table.score[at]);
      }
    const found = [...scores.keys()].sort((a, b) => scores.get(b) - scores.get(a));
    const asked = of.map((t) => meaning.all[t]),
      whole = asked.length === 1 && asked[0].toLowerCase() === wanted.join(" "),
      typed = whole || (asked.length === wanted.length && asked.every((text) => wanted.includes(text.toLowerCase())));
    return { found, of: asked, typed, score: (i) => (scores.get(i) / of.length / 100).toFixed(2) };
  }

  // -- neurons and regions --------------------------------------------------------------------------------------------

  const NEURONS = 4, // listed above the rows
    REGIONS = 3;
  let finder = null;
  function neuronLine(neuron, wanted) {
    const { label, shows, words: said, sheet, cell, top } = page.names,
      k = neuron * top.width;
    const holds = (text) => wanted.some((word) => ` ${text.toLowerCase()}`.includes(` ${word}`));
    const why = [shows, said].flatMap((text) => text.at(neuron).split(", ")).find(holds);
    const reason = holds(label.at(neuron)) || !why ? "" : `responds to ${why}`;
    return element(
      "button.line",
      { type: "button", title: "Show what activates it", onclick: () => page.legend.light(neuron) },
      element(`i.t.s${sheet[k]}`, { "--n": cell[k] }),
      element("span.caption", {}, `Neuron ${neuron} · `, element("bdi", {}, label.at(neuron))),
      element("small", {}, reason),
    );
  }
  const regionLine = (names, k) =>
    element(
      "button.line",
      {
        type: "button",
        title: "Go to this region",
        onclick: () => page.scatter.look(names.x[k], names.y[k], page.settings.places.span / 5),
      },
      element("span.caption", {}, `Region · ${names.text.at(k)}`),
      element("small", {}, `${names.count[k].toLocaleString("en")} points`),
    );
  async function beside(wanted) {
    const names = await page.regions(),
      texts = (names?.text?.all() || []).map((text) => text.toLowerCase());
    const places = [...texts.keys()].filter(
      (k) =>
        page.named(names, k) &&
        texts.indexOf(texts[k]) === k &&
        wanted.every((word) => ` ${texts[k]}`.includes(` ${word}`)),
    );
    if (!atlas.neuronSource) finder ||= page.names?.shows && atlas.neuronFinder(page.names);
    const neurons = finder?.(wanted) || [];
    return [
      ...neurons.slice(0, NEURONS).map((neuron) => neuronLine(neuron, wanted)),
      ...places.slice(0, REGIONS).map((k) => regionLine(names, k)),
    ].map((line) => element("li", {}, line));
  }

  async function search() {
    const wanted = words(query.value),
      turn = ++asked;
    let meant = wanted.length && by === "meaning" ? await meanings(wanted) : null;
    const going = (share, count) => {
      if (share < 1 && turn === asked)
        byId("found").textContent =
          `${count.toLocaleString("en")} found in ${Math.round(100 * share)} % of the captions …`;
      return turn === asked;
    };
    let all = !wanted.length ? null : meant ? meant.found : await page.find(wanted, going);
    if (turn !== asked) return;
    const spare = all && !all.length && by === "caption" && atlas.one("[data-by=meaning]") && (await meanings(wanted));
    if (spare && spare.of.length) {
      // no caption holds the words: the model is asked
      meant = spare;
      all = spare.found;
    }
    const found = all && all.filter(page.legend.visible);
    const others = wanted.length ? await beside(wanted) : [];
    const listed = found ? found.slice(0, LISTED) : [];
    const lines = await page.each(listed, (i) => element("li", {}, line(i, meant?.score(i))));
    if (turn !== asked) return; // something else was typed meanwhile
    hits = found;
    const replaced = meant && by === "caption" ? "No caption holds this. " : "";
    byId("found").textContent = replaced + said(wanted, found, meant) + unseen(all, found) + away(found);
    byId("beside").hidden = !others.length;
    byId("beside").replaceChildren(...others);
    suggest(wanted);
    byId("results").hidden = !listed.length;
    byId("results").replaceChildren(...lines);
    page.light("found");
    page.changed();
    if (meant && !found.every(page.placed))
      page.bring(found).then(() => {
        if (turn === asked) page.light();
      });
  }
  function said(wanted, found, meant) {
    const { origin } = atlas.one("[data-by=meaning]")?.dataset || {};
    if (!found) return by === "meaning" ? `Type one of ${origin}.` : "";
    if (meant && !meant.of.length) {
      const near = phrases(wanted.join(" ").slice(0, 3), 5);
      return (
        `No such word among ${origin}; try another, or search captions.` +
        (near.length ? ` Did you mean: ${near.join(", ")}?` : "")
      );
    }
    if (meant)
      return (
        (meant.typed ? "" : `“${wanted.join(" ")}” is not among ${origin}; this answers another question. `) +
        `Nearest in meaning to ${meant.of.map((text) => `“${text}”`).join(" and ")}, by the model; with ` +
        (meant.of.length > 1 ? "mean cosines (0 for a word that does not list the row)." : "cosines.")
      );
    if (!found.length && origin) {
      const near = phrases(wanted.at(-1).slice(0, 3), 5);
      return (
        "0 found in captions, and the model does not know the words." +
        (near.length ? ` Did you mean: ${near.join(", ")}?` : "")
      );
    }
    return `${found.length.toLocaleString("en")} found${found.length > LISTED ? `, the first ${LISTED} listed` : ""}`;
  }
  const unseen = (all, found) =>
    all && all.length > found.length
      ? ` · ${(all.length - found.length).toLocaleString("en")} hidden by the legend`
      : "";
  // The phrases of the vocabulary that begin so, then those that hold the letters.
  function phrases(typed, most) {
    if (!meaning || !typed) return [];
    const begin = meaning.all.filter((text) => text.toLowerCase().startsWith(typed));
    const hold = begin.length < most ? meaning.all.filter((text) => text.toLowerCase().includes(` ${typed}`)) : [];
    return [...new Set([...begin, ...hold])].slice(0, most);
  }
  function suggest(wanted) {
    const offered = phrases(wanted.join(" "), 8);
    byId("phrases")?.replaceChildren(...offered.map((text) => element("option", { value: text })));
  }
  function away(found) {
    // told where the reader has zoomed in and all hits lie elsewhere
    const { left, right, top, bottom } = page.scatter.plot.getBoundingClientRect();
    const near = (i) => {
      const [x, y] = page.placed(i) ? page.scatter.place(i) : [NaN, NaN];
      return x > left && x < right && y > top && y < bottom;
    };
    return !found?.length || found.some(near) ? "" : " · none in view: Enter goes to the first";
  }
  function choose(how) {
    by = how;
    for (const button of atlas.all("[data-by]")) button.setAttribute("aria-pressed", String(button.dataset.by === how));
    if (atlas.one("[data-by]")) query.placeholder = how === "meaning" ? "Search by meaning" : PLACEHOLDER;
    return search();
  }
  for (const button of atlas.all("[data-by]")) button.addEventListener("click", () => choose(button.dataset.by));
  query.addEventListener("input", search);
  query.addEventListener("focus", () => atlas.one("[data-by=meaning]") && texts([]), { once: true }); // for suggestions
  const lines = () => [...byId("beside").querySelectorAll("button"), ...byId("results").querySelectorAll("button")];
  query.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      if (hits?.length) page.pick(hits[0], true);
      else lines()[0]?.click();
    }
    if (event.key === "ArrowDown") lines()[0]?.focus();
  });
  for (const list of [byId("beside"), byId("results")])
    list.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key],
        at = lines().indexOf(event.target.closest("button"));
      if (!step || at < 0) return;
      event.preventDefault();
      (at + step < 0 ? query : lines()[at + step] || lines()[at]).focus();
    });
  const state = () => ({ q: query.value.trim() || null, by: by === "meaning" && query.value.trim() ? by : null });
  return {
    search,
    choose,
    hits: () => hits,
    state,
    set: (text, how) => {
      query.value = text;
      return choose(how === "meaning" && atlas.one("[data-by=meaning]") ? how : "caption");
    },
  };
};
