// @ts-check
"use strict";
// What every page shares: settings, tables of data, elements, thumbnails, the tooltip and the theme.
// Captions are untrusted input: they reach the page through textContent and setAttribute alone.

/** @type {Atlas} */
const atlas = (() => {
  const tables = {};
  const types = {
    uint8: Uint8Array,
    uint16: Uint16Array,
    uint32: Uint32Array,
    int16: Int16Array,
    int32: Int32Array,
    float32: Float32Array,
  };

  // -- data -----------------------------------------------------------------------------------------------------------

  class Text {
    constructor(bytes, offsets) {
      this.bytes = bytes;
      this.offsets = offsets;
      this.length = offsets.length - 1;
    }
    at(i) {
      return decoder.decode(this.bytes.subarray(this.offsets[i], this.offsets[i + 1]));
    }
    all() {
      return Array.from({ length: this.length }, (_, i) => this.at(i));
    }
  }
  class Parts {
    // texts of a table that was cut into several scripts
    constructor(parts) {
      this.parts = parts;
      this.length = parts.reduce((total, part) => total + part.length, 0);
    }
    at(i) {
      for (const part of this.parts) {
        if (i < part.length) return part.at(i);
        i -= part.length;
      }
      return "";
    }
    all() {
      return this.parts.flatMap((part) => part.all());
    }
  }
  const decoder = new TextDecoder();

  function lines(bytes, rows) {
    // finds where each line of a blob begins, which is cheaper than to store the offsets
    const offsets = new Uint32Array(rows + 1);
    for (let i = 0, row = 1; i < bytes.length; i++) if (bytes[i] === 10) offsets[row++] = i + 1;
    offsets[rows] = bytes.length + 1;
    return Object.assign(new Text(bytes, offsets), {
      at(i) {
        return decoder.decode(bytes.subarray(offsets[i], offsets[i + 1] - 1));
      },
    });
  }
  function joined(planes, width) {
    // puts values together again that were stored byte plane by byte plane
    const made = new Uint8Array(planes.length),
      n = planes.length / width;
    for (let plane = 0, from = 0; plane < width; plane++)
      for (let to = plane; from < (plane + 1) * n; to += width) made[to] = planes[from++];
    return made.buffer;
  }

  function bytes(base64) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
    const letters = atob(base64);
    return Uint8Array.from({ length: letters.length }, (_, i) => letters.charCodeAt(i));
  }

  async function inflate(packed) {
    // by a stream reader: a Response would pass every chunk through another process
    const stream = new DecompressionStream("gzip"),
      writer = stream.writable.getWriter();
    writer.write(packed);
    writer.close();
    const chunks = [];
    let size = 0;
    for (const reader = stream.readable.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) break;
      chunks.push(value);
      size += value.length;
    }
    const whole = new Uint8Array(size);
    for (let k = 0, at = 0; k < chunks.length; at += chunks[k++].length) whole.set(chunks[k], at);
    return whole.buffer;
  }

  async function unpack(columns, packed) {
    const buffer = await inflate(bytes(packed));
    const table = {};
    for (const [name, column] of Object.entries(columns)) {
      if (column.type === "text") {
        const offsets = new Uint32Array(buffer, column.at, column.rows + 1);
        table[name] = new Text(new Uint8Array(buffer, column.bytes, offsets[column.rows]), offsets);
      } else if (column.type === "lines") {
        table[name] = lines(new Uint8Array(buffer, column.at, column.size), column.rows);
      } else {
        const size = column.shape.reduce((a, b) => a * b, 1),
          type = types[column.type],
          width = type.BYTES_PER_ELEMENT;
        table[name] = column.planes
          ? new type(joined(new Uint8Array(buffer, column.at, size * width), width))
          : new type(buffer, column.at, size);
        table[name].width = column.shape[1] || 1;
      }
    }
    return table;
  }

  // A table may be cut into several numbered scripts. `table` loads those that are missing and unpacks the table when
  // it is first asked for: a single file holds more tables than one visit needs.
  const arrived = {},
    waiting = {};
  function data(name, columns, packed, piece = 0) {
    (arrived[name] ||= new Map()).set(piece, [columns, packed]);
    waiting[name]?.();
  }
  function table(name) {
    if (tables[name]) return tables[name];
    const wanted = settings()?.tables[name];
    if (!wanted) return arrived[name] && (tables[name] = join(arrived[name]));
    return (tables[name] = new Promise((resolve) => {
      const all = () => {
        if (arrived[name]?.size === wanted) resolve(join(arrived[name]));
      };
      waiting[name] = all;
      for (let i = 0; i < wanted && !isWhole(); i++) {
        // its element is removed once it ran, because its text is large
        if (arrived[name]?.has(i)) continue;
        const script = element("script", {
          src: `data/${name}${i ? `-${i}` : ""}.js`,
          onload: () => script.remove(),
        });
        document.head.append(Object.assign(script, { async: false }));
      }
      all();
    }));
  }
  const isWhole = () => document.body.dataset.whole !== undefined; // a single file holds all its tables
  function forget(name) {
    // frees the memory of a table; it can be asked for again
    delete tables[name];
    if (!isWhole()) delete arrived[name];
  }
  async function join(packed) {
    const parts = await Promise.all(Array.from({ length: packed.size }, (_, i) => unpack(...packed.get(i))));
    if (parts.length === 1) return parts[0];
    const joint = {};
    for (const [name, first] of Object.entries(parts[0])) {
      const pieces = parts.map((part) => part[name]);
      if (first.at && !ArrayBuffer.isView(first)) {
        joint[name] = new Parts(pieces);
        continue;
      }
      joint[name] = new first.constructor(pieces.reduce((total, piece) => total + piece.length, 0));
      joint[name].width = first.width;
      let to = 0;
      for (const piece of pieces) {
        joint[name].set(piece, to);
        to += piece.length;
      }
    }
    return joint;
  }
  let read = null;
  function settings() {
    // null on the card of a neuron, which has none
    const written = byId("settings");
    return written && (read ||= JSON.parse(written.textContent));
  }

  // -- elements -------------------------------------------------------------------------------------------------------

  const byId = (id) => document.getElementById(id);
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
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

  function cellPlace(cell) {
    const { sheet } = settings();
    return { x: cell % sheet, y: Math.floor(cell / sheet) };
  }
  class Rows {
    /** @param {Table} table @param {string[]} kinds */
    constructor(table, kinds) {
      this.kind = this.group = this.sheet = this.cell = this.caption = []; // columns, taken from the table
      this.groups = this.captions = null;
      Object.assign(this, table);
      this.kinds = kinds;
      this.length = table.kind.length;
    }
    name(row) {
      // captions may come after the places of points
      return this.captions ? this.captions.at(this.caption[row]) : "…";
    }
    style(row) {
      return this.groups.at(this.group[row]);
    }
    about(row) {
      return [this.kinds[this.kind[row]], this.style(row)].filter(Boolean).join(" · ");
    }
    spot(row) {
      return { sheet: this.sheet[row], ...cellPlace(this.cell[row]) };
    }
    thumb(row, tag = "i", attributes = {}) {
      const sheet = this.sheet[row];
      if (sheet < 0) return element(`${tag}.t.none`, attributes, this.name(row)); // a text is shown by its words
      return element(`${tag}.t.s${sheet}`, { "--n": this.cell[row], ...attributes });
    }
  }

  // Brings a part of the panel into view; where the panel is a sheet over the map, only so far that both are seen.
  const sheet = matchMedia("(max-width: 820px)");
  function reveal(part) {
    const { top } = part.getBoundingClientRect();
    if (!sheet.matches) part.scrollIntoView({ block: "nearest" });
    else if (top > 0.7 * innerHeight || top < 0) scrollBy(0, top - 0.7 * innerHeight);
  }

  // -- the tooltip ----------------------------------------------------------------------------------------------------

  const tip = element("div.tip", { role: "tooltip", id: "tip", hidden: "" });
  function show(x, y, many, ...children) {
    tip.className = many ? "tip many" : "tip";
    tip.replaceChildren(...children);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, x + 16 + width > innerWidth ? x - 16 - width : x + 16)}px`;
    tip.style.top = `${Math.max(8, Math.min(innerHeight - height - 8, y + 16))}px`;
  }
  const hide = () => {
    tip.hidden = true;
  };

  // -- theme ----------------------------------------------------------------------------------------------------------

  const root = document.documentElement;
  const remembered = () => {
    try {
      return localStorage.getItem("atlas-theme");
    } catch {
      return null;
    }
  };
  const dark = () =>
    (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  if (remembered()) root.dataset.theme = remembered();
  document.addEventListener("DOMContentLoaded", () => {
    document.body.append(tip);
    document.querySelector(".bar").append(
      element("button.quiet.theme", {
        type: "button",
        title: "Switch between light and dark",
        "aria-label": "Switch between light and dark",
        onclick: () => {
          root.dataset.theme = dark() ? "light" : "dark";
          try {
            localStorage.setItem("atlas-theme", root.dataset.theme);
          } catch {
            /* private windows store nothing */
          }
        },
      }),
    );
    const nav = one(".bar nav"), // it scrolls where there are many pages
      here = nav.querySelector("[aria-current]");
    if (here) nav.scrollLeft = here.offsetLeft - nav.offsetLeft - (nav.clientWidth - here.offsetWidth) / 2;
  });

  const numbered = (first, number) => first.replace(/0+/, (zeros) => String(number).padStart(zeros.length, "0"));
  const address = (neuron) => numbered(settings().card, neuron);
  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  return {
    data,
    inflate,
    bytes,
    table,
    forget,
    settings,
    element,
    byId,
    one,
    all,
    cellPlace,
    Rows,
    show,
    hide,
    reveal,
    address,
    numbered,
    words,
  };
})();
