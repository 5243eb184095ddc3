"use strict";
// What every page shares: the theme, the tables that data scripts bring, thumbnails, the tooltip.
// Captions are strangers' text: they reach the page through textContent and setAttribute alone.

const atlas = (() => {
  const tables = {};
  const types = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, int16: Int16Array, int32: Int32Array, float32: Float32Array };
  const SHEET = 32;

  // -- data ---------------------------------------------------------------------------------------------------------

  class Text {
    constructor(bytes, offsets) { this.bytes = bytes; this.offsets = offsets; this.length = offsets.length - 1; }
    at(i) { return decoder.decode(this.bytes.subarray(this.offsets[i], this.offsets[i + 1])); }
    all() { return Array.from({ length: this.length }, (_, i) => this.at(i)); }
  }
  const decoder = new TextDecoder();

  function bytes(base64) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
    const letters = atob(base64);
    return Uint8Array.from({ length: letters.length }, (_, i) => letters.charCodeAt(i));
  }

  async function unpack(columns, packed) {
    const stream = new Blob([bytes(packed)]).stream().pipeThrough(new DecompressionStream("gzip"));
    const buffer = await new Response(stream).arrayBuffer();
    const table = {};
    for (const [name, column] of Object.entries(columns)) {
      if (column.type === "text") {
        const offsets = new Uint32Array(buffer, column.at, column.rows + 1);
        table[name] = new Text(new Uint8Array(buffer, column.bytes, offsets[column.rows]), offsets);
      } else {
        const size = column.shape.reduce((a, b) => a * b, 1);
        table[name] = new types[column.type](buffer, column.at, size);
        table[name].width = column.shape[1] || 1;
      }
    }
    return table;
  }

  const data = (name, columns, packed) => { tables[name] = unpack(columns, packed); };
  const table = (name) => tables[name];
  const json = (id) => JSON.parse(document.getElementById(id).textContent);

  // -- elements -----------------------------------------------------------------------------------------------------

  function element(name, attributes = {}, ...children) {
    const [tag, ...classes] = name.split(".");
    const made = document.createElement(tag);
    if (classes.length) made.className = classes.join(" ");
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (key.startsWith("--")) made.style.setProperty(key, value);
      else if (value !== null && value !== undefined) made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  class Rows {
    constructor(table, kinds) {
      Object.assign(this, table);
      this.kinds = kinds;
      this.length = table.kind.length;
    }
    name(row) { return this.captions.at(this.caption[row]); }
    style(row) { return this.groups.at(this.group[row]); }
    about(row) { return [this.kinds[this.kind[row]], this.style(row)].filter(Boolean).join(" · "); }
    spot(row) { return { sheet: this.sheet[row], x: this.cell[row] % SHEET, y: Math.floor(this.cell[row] / SHEET) }; }
    thumb(row, tag = "i", attributes = {}, at = -1) {
      const sheet = this.sheet[row], marked = at < 0 ? "" : ".m";
      if (sheet < 0) return element(`${tag}.t.none`, attributes, this.name(row)); // texts are shown by their words
      return element(`${tag}.t.s${sheet}${marked}`, { "--n": this.cell[row], "--m": at, ...attributes });
    }
    patch(row, top, left, tag = "i", attributes = {}) {
      const { sheet, x, y } = this.spot(row);
      return element(`${tag}.t.s${sheet}`, { "--x": x + left, "--y": y + top, "--z": 2, ...attributes });
    }
  }
  const rows = async (kinds) => new Rows(await table("rows"), kinds);

  // -- tooltip: one of them -----------------------------------------------------------------------------------------

  const tip = element("div.tip", { role: "tooltip", id: "tip", hidden: "" });
  function show(x, y, many, ...children) {
    tip.className = many ? "tip many" : "tip";
    tip.replaceChildren(...children);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, x + 16 + width > innerWidth ? x - 16 - width : x + 16)}px`;
    tip.style.top = `${Math.max(8, Math.min(innerHeight - height - 8, y + 16))}px`;
  }
  const hide = () => { tip.hidden = true; };

  // -- theme --------------------------------------------------------------------------------------------------------

  const root = document.documentElement;
  const remembered = () => { try { return localStorage.getItem("atlas-theme"); } catch { return null; } };
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  if (remembered()) root.dataset.theme = remembered();
  document.addEventListener("DOMContentLoaded", () => {
    document.body.append(tip);
    document.querySelector(".bar").append(element("button.quiet.theme",
      { type: "button", title: "Light or dark", "aria-label": "Switch between light and dark", onclick: () => {
        root.dataset.theme = dark() ? "light" : "dark";
        try { localStorage.setItem("atlas-theme", root.dataset.theme); } catch { /* private windows keep nothing */ }
      } }));
  });

  const address = (neuron) => `neurons/${String(neuron).padStart(4, "0")}.html`;
  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  return { data, table, json, element, rows, show, hide, address, words, SHEET };
})();
