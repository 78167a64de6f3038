// The page's side of the board: colours, scaling, the mask laid over the photograph, a crosshair across all panels.
// It draws numbers that the kernel computed; the one thing it computes itself is the paste of the mask, by the rule of
// blendlab.paste_masks. Coordinates: u, v run from 0 to 1 across the box.

const el = (tag, cls, parent) => {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  if (parent) parent.appendChild(node);
  return node;
};
const say = (node, text) => node.said !== text && (node.textContent = node.said = text); // spares the page a layout
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
const short = (x) => (Math.abs(x) >= 100 ? x.toFixed(0) : Math.abs(x) >= 1 ? x.toFixed(2) : x.toFixed(3));

// 256 colours as the little-endian RGBA words that ImageData holds
const palette = (hex) =>
  Uint32Array.from({ length: 256 }, (_, i) => {
    const rgb = parseInt(hex.slice(6 * i, 6 * i + 6), 16);
    return (0xff000000 | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
  });

// The same 256 as a CSS background, every fifteenth of them. A legend on a canvas would be a layer of its own, and the
// page puts all its layers together anew at every step.
const gradient = (hex) => `linear-gradient(90deg, ${Array.from({ length: 18 }, (_, i) => `#${hex.slice(90 * i, 90 * i + 6)}`)})`;

// A canvas that keeps its pixels' memory, so that a slider's step allocates nothing.
class Picture {
  constructor(parent, cls = "") {
    this.canvas = el("canvas", cls, parent);
    this.context = this.canvas.getContext("2d", { willReadFrequently: true }); // pixels come from here: keep them here
  }
  resize(width, height) {
    if (this.image && this.image.width === width && this.image.height === height) return;
    Object.assign(this.canvas, { width, height });
    this.image = new ImageData(width, height);
    this.words = new Uint32Array(this.image.data.buffer);
  }
}

// One canvas under all panels of the grid: a canvas for each would cost the page half a frame at every step.
class Sheet extends Picture {
  constructor(grid) {
    super(grid, "bl-sheet");
    Object.assign(this, { grid, tables: new Map() });
  }
  // Where each panel lies on it, in the screen's pixels. False while the page has no room for it.
  measure(panels) {
    const frame = this.grid.getBoundingClientRect(), screen = (length) => Math.round(length * (window.devicePixelRatio || 1));
    if (!screen(frame.width) || !screen(frame.height)) return false;
    this.resize(screen(frame.width), screen(frame.height));
    this.size = [frame.width, frame.height].join();
    this.clear();
    for (const panel of panels) {
      const { left, top, right, bottom } = panel.node.getBoundingClientRect();
      const x = screen(left - frame.left), y = screen(top - frame.top);
      panel.area = { x, y, w: screen(right - frame.left) - x, h: screen(bottom - frame.top) - y };
    }
    return true;
  }
  clear() {
    this.words?.fill(0);
  }
  fits() {
    const { width, height } = this.grid.getBoundingClientRect();
    return this.size === [width, height].join();
  }
  // every cell of a map as a square of one colour; rows that repeat are copied
  draw({ x, y, w, h }, codes, height, width, colours) {
    const words = this.words, across = this.image.width, columns = this.nearest(w, width);
    for (let i = 0, last = -1, at = y * across + x; i < h; i++, at += across) {
      const row = Math.floor(((i + 0.5) * height) / h);
      if (row === last) words.copyWithin(at, at - across, at - across + w);
      else for (let k = 0, start = row * width; k < w; k++) words[at + k] = colours[codes[start + columns[k]]];
      last = row;
    }
  }
  // which of `cells` lies below each of `pixels` along an axis
  nearest(pixels, cells) {
    const key = `${pixels} ${cells}`;
    if (this.tables.size > 500) this.tables.clear();
    if (!this.tables.has(key)) this.tables.set(key, Int32Array.from({ length: pixels }, (_, i) => Math.floor(((i + 0.5) * cells) / pixels)));
    return this.tables.get(key);
  }
  show(panels) {
    this.context.putImageData(this.image, 0, 0);
    for (const panel of panels) {
      const marks = (panel.marks || panel.spec?.marks || []).filter(({ only }) => only == null || only === panel.k);
      if (marks.length) this.points(panel.area, panel.spec, marks);
    }
  }
  // points over a panel, black with a white rim: a shape, not a colour, tells one lattice from another. They are stamped
  // into a copy of its pixels: thousands of them as a path would take a tenth of a second.
  points({ x, y, w, h }, { shape: [, height, width] }, marks) {
    if (this.copy?.width !== w || this.copy.height !== h) this.copy = new ImageData(w, h);
    const out = new Uint32Array(this.copy.data.buffer), across = this.image.width;
    for (let i = 0; i < h; i++) out.set(this.words.subarray((y + i) * across + x, (y + i) * across + x + w), i * w);
    const frames = [];
    for (const { shape, xs, ys } of marks) {
      if (shape === "frame") frames.push([xs, ys]);
      else {
        const gap = Math.min(w / xs.length, h / ys.length), stamp = STAMPS[shape](gap);
        for (const row of ys) for (const column of xs) stamped(out, w, h, Math.round((column * w) / width - 0.5), Math.round((row * h) / height - 0.5), stamp);
      }
    }
    this.context.putImageData(this.copy, x, y);
    for (const [xs, ys] of frames) this.frame(x, y, xs, ys, w / width, h / height);
  }
  // a cell too small to see gets a frame that can be seen
  frame(x, y, xs, ys, across, down) {
    const least = ([low, high], scale) => [(low + high) / 2, Math.max((high - low) / 2, 2.5 / scale)].map((length) => length * scale);
    const [cx, rx] = least(xs, across), [cy, ry] = least(ys, down), { context } = this;
    for (const [colour, width] of [["#fff", 2.5], ["#000", 1.5]]) {
      Object.assign(context, { strokeStyle: colour, lineWidth: width });
      context.strokeRect(x + cx - rx, y + cy - ry, 2 * rx, 2 * ry);
    }
  }
}

// A stamp: how far it reaches, and of each pixel whether it is black (1), white (-1) or let alone (0).
const [BLACK, WHITE] = [0xff000000, 0xffffffff];
const stamp = (reach, what) => {
  const side = 2 * reach + 1;
  return { reach, side, pixels: Int8Array.from({ length: side * side }, (_, i) => what(Math.abs((i % side) - reach), Math.abs(Math.floor(i / side) - reach))) };
};
const rim = (gap) => (gap < 12 ? 0 : -1); // where points stand close, rims would leave no room for the map
const STAMPS = {
  dot: (gap, r = clamp(Math.round(gap * 0.13), 1, 4)) => stamp(r + 1, (dx, dy) => (Math.max(dx, dy) <= r ? 1 : rim(gap))),
  ring: (gap, r = clamp(Math.round(gap * 0.22), 2, 5)) => stamp(r + 1, (dx, dy) => [rim(gap), 1, rim(gap)][Math.max(dx, dy) - r + 1] || 0),
  cross: () => stamp(11, (dx, dy) => [1, 1, -1][Math.abs(dx - dy)] || 0),
};
function stamped(out, w, h, x, y, { reach, side, pixels }) {
  for (let i = Math.max(0, reach - y); i < Math.min(side, h + reach - y); i++) {
    for (let k = Math.max(0, reach - x), at = (y + i - reach) * w + x - reach; k < Math.min(side, w + reach - x); k++) {
      const what = pixels[i * side + k];
      if (what) out[at + k] = what > 0 ? BLACK : WHITE;
    }
  }
}

// ---------------------------------------------------------------- one panel: a map with its crosshair and pin
class Panel {
  constructor(board, spec, k) {
    this.node = el("div");
    this.row = board.row(k);
    el("div", "bl-panel-box", this.node);
    el("div", "bl-cross", this.node);
    el("div", "bl-pin", this.node);
    const which = spec.large ? "" : `, ${board.row(k)}`;
    this.node.className = `bl-panel bl-${spec.space}`;
    this.node.setAttribute("role", "img");
    this.node.setAttribute("aria-label", `${spec.title}, ${spec.equation}${which}`);
    const [, height, width] = spec.shape;
    if (spec.space === "image") this.node.style.aspectRatio = `${width} / ${height}`;
    this.node.addEventListener("pointerenter", () => (this.node.title = `${this.spec.equation}${which}: ${this.spec.description}`));
    this.node.addEventListener("pointermove", (e) => board.hover(this, ...this.at(e)));
    this.node.addEventListener("pointerleave", () => board.hover(null));
    this.node.addEventListener("click", (e) => {
      const [u, v] = this.at(e), [, height, width] = this.spec.shape;
      if (this.spec.cells && !board.fixed) board.choose({ name: this.spec.name, k: this.k, row: Math.floor(v * height), column: Math.floor(u * width) });
      else if (spec.space === "box") board.pin(u, v);
      else board.point(u, v);
    });
  }
  at(event) {
    const r = this.node.getBoundingClientRect();
    return [clamp((event.clientX - r.left) / r.width, 0, 0.999999), clamp((event.clientY - r.top) / r.height, 0, 0.999999)];
  }
  draw(spec, k, codes, colours, sheet) {
    const [, height, width] = spec.shape;
    Object.assign(this, { spec, k, codes: codes.subarray(k * height * width, (k + 1) * height * width) });
    if (sheet) sheet.draw(this.area, this.codes, height, width, colours);
  }
  // the value under (u, v), as well as 256 colours tell it
  read(u, v) {
    const [, height, width] = this.spec.shape, row = Math.floor(v * height), column = Math.floor(u * width);
    const code = this.codes[row * width + column], value = this.spec.low + (code / 255) * (this.spec.high - this.spec.low);
    const which = this.spec.large ? "" : ` ${this.row}`, signed = this.spec.low < 0; // signed numbers may lie beyond their colours
    const so = signed && code === 255 ? "at least" : signed && code === 0 ? "at most" : "about";
    return `${this.spec.title}${which}, row ${row}, column ${column}: ${so} ${short(value)}`;
  }
}

// ---------------------------------------------------------------- the photograph: boxes, mask, drag and keys
const HANDLES = [[0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1], [0.5, 1], [0, 1], [0, 0.5]];
const SVG = "http://www.w3.org/2000/svg";

class Photo {
  constructor(board, parent) {
    this.board = board;
    this.node = el("div", "bl-photo", parent);
    this.canvas = el("canvas", "", this.node);
    this.mask = new Picture(this.node, "bl-mask");
    this.svg = this.node.appendChild(document.createElementNS(SVG, "svg"));
    this.svg.setAttribute("tabindex", "0");
    this.svg.setAttribute("role", "group");
    this.svg.setAttribute("preserveAspectRatio", "none");
    el("div", "bl-cross", this.node);
    el("div", "bl-pin", this.node);
    this.pointer = new Pointer(this.node);
    this.svg.addEventListener("pointerdown", (e) => this.down(e));
    this.svg.addEventListener("pointermove", (e) => this.move(e));
    this.svg.addEventListener("pointerup", (e) => this.up(e));
    this.svg.addEventListener("pointercancel", () => (this.grip = null));
    this.svg.addEventListener("pointerleave", () => board.hover(null));
    this.svg.addEventListener("keydown", (e) => this.key(e));
  }
  show(picture) {
    const { width, height } = picture;
    Object.assign(this, { width, height });
    Object.assign(this.canvas, { width, height });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.node.style.aspectRatio = `${width} / ${height}`;
    this.canvas.style.imageRendering = width < 128 ? "pixelated" : ""; // so enlarged that cells are to be seen
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `photograph ${picture.name}, ${width} by ${height} pixels`);
    const rgb = bytes(picture.rgb), image = new ImageData(width, height), out = image.data;
    for (let i = 0, j = 0; j < rgb.length; i += 4, j += 3) {
      out[i] = rgb[j]; out[i + 1] = rgb[j + 1]; out[i + 2] = rgb[j + 2]; out[i + 3] = 255;
    }
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }
  at(event) {
    const r = this.svg.getBoundingClientRect();
    return [((event.clientX - r.left) / r.width) * this.width, ((event.clientY - r.top) / r.height) * this.height];
  }
  outlines(boxes, selected, box) {
    const drawn = [boxes, selected, box].join();
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.svg.replaceChildren();
    const rect = (cls, [x1, y1, x2, y2]) => {
      const node = this.svg.appendChild(document.createElementNS(SVG, "rect"));
      node.setAttribute("class", cls);
      for (const [name, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) node.setAttribute(name, value);
    };
    boxes.forEach((other, i) => i !== selected && rect("bl-other", other));
    if (!box) return this.svg.setAttribute("aria-label", "no instance");
    rect("bl-halo", box);
    rect("bl-box", box);
    if (this.board.fixed) return this.svg.setAttribute("aria-label", `box of the selected instance, ${box.map((c) => c.toFixed(1)).join(", ")}. ${this.board.hint}`);
    const size = 7 * (this.width / (this.svg.clientWidth || 500)), [x1, y1, x2, y2] = box;
    for (const [a, b] of HANDLES) {
      const x = x1 + a * (x2 - x1) - size / 2, y = y1 + b * (y2 - y1) - size / 2;
      rect("bl-handle", [x, y, x + size, y + size]);
    }
    this.svg.setAttribute("aria-label",
      `box of the selected instance, ${box.map((c) => c.toFixed(1)).join(", ")}. Arrow keys move it by a pixel, with Shift by ten, with Alt they move its lower right corner.`);
  }
  // paste by the rule of paste_masks: bilinear between bin centres, fading to 0 beyond them, kept where at least 0.5
  overlay(codes, R, [x1, y1, x2, y2]) {
    const left = clamp(Math.floor(x1), 0, this.width), right = clamp(Math.floor(x2) + 1, 0, this.width);
    const top = clamp(Math.floor(y1), 0, this.height), bottom = clamp(Math.floor(y2) + 1, 0, this.height);
    const w = right - left, h = bottom - top, { canvas, context } = this.mask;
    canvas.hidden = w < 1 || h < 1 || x2 <= x1 || y2 <= y1;
    if (canvas.hidden) return;
    this.mask.resize(w, h);
    const out = this.mask.words.fill(0);
    const share = (x, of) => `${(100 * x) / of}%`; // the canvas is as large as the box, and lies over it
    Object.assign(canvas.style, { left: share(left, this.width), top: share(top, this.height), width: share(w, this.width), height: share(h, this.height) });
    const axis = (first, count, low, high) => Array.from({ length: count }, (_, i) => ((first + i + 0.5 - low) / (high - low)) * R - 0.5);
    const P = R + 2, padded = new Float32Array(P * P); // one ring of zeros, so that the fading needs no cases
    for (let i = 0; i < R; i++) for (let j = 0; j < R; j++) padded[(i + 1) * P + j + 1] = codes[i * R + j] / 255;
    const xs = axis(left, w, x1, x2), ys = axis(top, h, y1, y2);
    for (let i = 0; i < h; i++) {
      const y = ys[i] + 1, y0 = Math.floor(y), fy = y - y0;
      if (y0 < 0 || y0 > R) continue;
      for (let j = 0; j < w; j++) {
        const x = xs[j] + 1, x0 = Math.floor(x), fx = x - x0;
        if (x0 < 0 || x0 > R) continue;
        const a = y0 * P + x0;
        const p = (1 - fy) * ((1 - fx) * padded[a] + fx * padded[a + 1]) + fy * ((1 - fx) * padded[a + P] + fx * padded[a + P + 1]);
        if (p >= 0.5) out[i * w + j] = 0x99009fe6; // orange, see-through
      }
    }
    context.putImageData(this.mask.image, 0, 0);
  }
  down(event) {
    const [x, y] = this.at(event), box = this.board.fixed ? null : this.board.box;
    this.svg.setPointerCapture(event.pointerId);
    this.svg.focus({ preventScroll: true });
    const reach = 9 * (this.width / this.svg.clientWidth);
    const near = (a, b) => box && Math.hypot(x - (box[0] + a * (box[2] - box[0])), y - (box[1] + b * (box[3] - box[1]))) < reach;
    const handle = HANDLES.find(([a, b]) => near(a, b));
    const inside = box && x >= box[0] && x <= box[2] && y >= box[1] && y <= box[3];
    this.grip = { x, y, handle, inside, from: box && [...box], moved: false, px: event.clientX, py: event.clientY };
  }
  move(event) {
    const [x, y] = this.at(event), grip = this.grip, box = this.board.box;
    if (!grip) {
      if (!box) return;
      const u = (x - box[0]) / (box[2] - box[0]), v = (y - box[1]) / (box[3] - box[1]);
      return u >= 0 && u < 1 && v >= 0 && v < 1 ? this.board.hover(this, u, v) : this.board.hover(null);
    }
    if (!grip.from || !(grip.handle || grip.inside)) return;
    if (!grip.moved && Math.hypot(event.clientX - grip.px, event.clientY - grip.py) < 4) return;
    grip.moved = true;
    this.board.hover(null); // the crosshair would stay where the drag began
    this.board.drag(this.resized(grip.from, grip.handle, x - grip.x, y - grip.y));
  }
  // a side never crosses its opposite: a box keeps at least one pixel each way, and stays in reach of the image
  resized([x1, y1, x2, y2], handle, dx, dy) {
    if (!handle) {
      dx = clamp(dx, 1 - x2, this.width - 1 - x1);
      dy = clamp(dy, 1 - y2, this.height - 1 - y1);
      return [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
    }
    const [a, b] = handle, slack = 0.5 * Math.max(this.width, this.height);
    if (a === 0) x1 = clamp(x1 + dx, -slack, x2 - 1);
    if (a === 1) x2 = clamp(x2 + dx, x1 + 1, this.width + slack);
    if (b === 0) y1 = clamp(y1 + dy, -slack, y2 - 1);
    if (b === 1) y2 = clamp(y2 + dy, y1 + 1, this.height + slack);
    return [x1, y1, x2, y2];
  }
  up(event) {
    const grip = this.grip;
    this.grip = null;
    if (grip && !grip.moved) this.board.send({ kind: "click", x: grip.x, y: grip.y });
  }
  key(event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }, box = this.board.box;
    if (this.board.fixed && event.key in arrows) return this.board.step(event, ...arrows[event.key]);
    if (!(event.key in arrows) || !box) return;
    event.preventDefault();
    const [dx, dy] = arrows[event.key].map((d) => d * this.board.model.get("nudge") * (event.shiftKey ? 10 : 1));
    this.board.drag(this.resized(box, event.altKey ? [dx ? 1 : 0.5, dy ? 1 : 0.5] : null, dx, dy));
  }
}

// ---------------------------------------------------------------- the whole board
class BoardView {
  constructor(model, root) {
    Object.assign(this, { model, root, panels: [], box: null, fixed: model.get("fixed") });
    const colours = Object.entries(model.get("colours")), of = (make) => Object.fromEntries(colours.map(([name, hex]) => [name, make(hex)]));
    [this.palettes, this.gradients] = [of(palette), of(gradient)];
    root.classList.add("bl-board");
    root.classList.toggle("bl-fixed", this.fixed);
    root.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys stay out
    root.addEventListener("keydown", (e) => e.stopPropagation());
    this.error = el("div", "bl-error", root);
    this.error.setAttribute("role", "alert");
    this.main = el("div", "bl-main", root);
    this.left = el("div", "bl-left", this.main);
    this.photo = new Photo(this, this.left);
    this.value = el("div", "bl-value", this.left);
    this.easel = new Easel(this, this.photo);
    this.table = el("div", "bl-sum", this.left);
    this.told = el("details", "bl-told", this.left);
    el("summary", "", this.told);
    el("div", "", this.told);
    this.grid = el("div", "bl-grid", this.main);
    this.grid.tabIndex = 0;
    this.grid.setAttribute("role", "group");
    this.grid.setAttribute("aria-label", this.fixed ? `maps. ${model.get("hint")}` : "the steps of the blender. Arrow keys choose a mask pixel; b goes to a cell of the bases, a to one of the attention, digits to its basis, arrow keys move it, m goes back; Escape lets go.");
    this.sheet = new Sheet(this.grid);
    this.resized = new ResizeObserver(() => {
      if (this.sheet.fits()) return; // a new row of K has been measured already
      this.measured = false;
      this.photo.drawn = ""; // handles keep their size on the screen
      this.layout();
    });
    this.resized.observe(this.grid);
    this.grid.addEventListener("keydown", (e) => this.key(e));
    this.notes = el("div", "bl-notes", root);
    const foot = el("div", "bl-foot", root);
    this.text = el("div", "bl-text", foot);
    this.text.setAttribute("aria-live", "polite");
    this.timing = el("div", "bl-timing", foot);
  }
  send(content) { this.model.send(content); }
  get hint() {
    const own = this.model.get("hint") || this.easel?.hint;
    return own || (this.photo.node.hidden ? "Click a map, or use the arrow keys, to choose a pixel." : "Click an instance, drag its box or its handles, click a mask pixel.");
  }
  row(k) { return this.model.get("rows")[k] ?? `k = ${k}`; }

  read(trait) { // the panels of "bases" or "steps", their words parsed once
    const group = this.model.get(trait);
    if (!group.words) return { panels: [] };
    if (this.parsed?.[trait]?.from !== group) (this.parsed ||= {})[trait] = { from: group, codes: bytes(group.codes), ...JSON.parse(group.words) };
    return this.parsed[trait];
  }
  boxes() { // [[x1, y1, x2, y2], ...]
    const flat = this.model.get("boxes");
    return Array.from({ length: flat.length / 4 }, (_, i) => flat.slice(4 * i, 4 * i + 4));
  }

  show() { // everything the model holds; a new view starts here
    this.photo.node.hidden = !this.model.get("picture").rgb;
    this.main.classList.toggle("bl-alone", this.photo.node.hidden);
    this.value.textContent = this.hint;
    if (!this.photo.node.hidden) this.photo.show(this.model.get("picture"));
    this.layout();
    this.words();
  }
  // one message may change several traits: they are drawn together, once
  touch(name) {
    if (!this.touched) {
      this.touched = new Set();
      queueMicrotask(() => {
        const names = this.touched;
        this.touched = null;
        if (names.has("picture")) return this.show();
        if (names.has("bases") || names.has("steps")) this.layout(names);
        else if (names.has("boxes")) this.instance(this.read("steps"));
        this.words();
      });
    }
    this.touched.add(name);
  }
  // one row a basis and one column a step, or the other way round; the sums stand beside, or below
  layout(names = new Set(["bases", "steps"])) {
    const specs = ["bases", "steps"].flatMap((trait) => this.read(trait).panels);
    const shape = specs.map((s) => `${s.name} ${s.equation} ${s.space === "image" ? s.shape : ""}`).join();
    const K = this.read("steps").panels.find((s) => !s.large)?.shape[0] || 0;
    if (shape !== this.shape) this.build(specs);
    if (shape !== this.shape || K > this.labels.length) this.measured = false;
    if (shape !== this.shape || K !== this.K) this.rows(K);
    if (!this.measured || K !== this.K) names = new Set(["bases", "steps"]);
    Object.assign(this, { shape, K });
    this.measured ||= this.sheet.measure(Object.values(this.cells).flat());
    for (const name of names) if (name === "bases" || name === "steps") this.draw(name);
    if (this.measured) this.sheet.show(Object.values(this.cells).flatMap((panels) => panels.slice(0, K || 1)));
  }
  put(node, step, k, after) { // into the grid; in the document after its neighbour, for those who hear it read
    const transposed = this.model.get("transposed");
    node.style[transposed ? "gridRow" : "gridColumn"] = step;
    node.style[transposed ? "gridColumn" : "gridRow"] = k;
    if (after) after.after(node);
    else this.grid.appendChild(node);
    return node;
  }
  build(specs) {
    this.columns = specs.filter((s) => !s.large);
    this.cells = {};
    this.labels = [];
    this.grid.replaceChildren(this.sheet.canvas);
    this.grid.classList.toggle("bl-transposed", this.model.get("transposed"));
    this.grid.classList.toggle("bl-only", !this.columns.length);
    this.columns.forEach((spec, i) => {
      this.put(this.header(spec), i + 2, 1);
      this.cells[spec.name] = [];
    });
    this.sums = this.put(el("div", "bl-sums"), this.columns.length + 2, 1);
    for (const spec of specs.filter((s) => s.large)) {
      const both = el("div", "bl-large", this.sums);
      both.appendChild(this.header(spec));
      this.cells[spec.name] = [new Panel(this, spec, 0)];
      both.appendChild(this.cells[spec.name][0].node);
    }
  }
  // K rows of panels. Those beyond K keep their room, unseen: a step of K then moves nothing on the page
  rows(K) {
    for (let k = this.labels.length; k < K; k++) {
      this.labels.push(this.put(el("div", "bl-k"), 1, k + 2, this.labels[k - 1] || this.sheet.canvas));
      this.labels[k].textContent = this.row(k);
    }
    this.columns.forEach((spec, i) => {
      const panels = this.cells[spec.name];
      for (let k = panels.length; k < K; k++) {
        panels.push(new Panel(this, spec, k));
        this.put(panels[k].node, i + 2, k + 2, k ? panels[k - 1].node : this.heads[spec.name]);
      }
    });
    const rows = [this.labels, ...this.columns.map((spec) => this.cells[spec.name].map((panel) => panel.node))];
    for (const nodes of rows) nodes.forEach((node, k) => node.classList.toggle("bl-off", k >= K));
    this.sheet.clear();
    const transposed = this.model.get("transposed"), style = this.grid.style, n = this.columns.length, most = this.labels.length;
    this.sums.style[transposed ? "gridColumn" : "gridRow"] = `1 / span ${most + (transposed ? 1 : 2)}`;
    style.gridTemplateRows = transposed ? "" : `repeat(${most + 1}, auto) 1fr`; // room to spare goes below the panels
    style.gridTemplateColumns = transposed ? `auto repeat(${most}, minmax(0, 110px))` : `auto ${"minmax(0, 1fr) ".repeat(n)} ${this.sums.firstChild ? "minmax(0, 1.7fr)" : ""}`;
  }
  header(spec) {
    const node = el("div", "bl-head");
    el("b", "", node).textContent = spec.title;
    el("span", "bl-equation", node).textContent = spec.equation;
    const scale = el("span", "bl-scale", node);
    say(el("span", "", scale), short(spec.low)); // at once: the panels are measured before they are drawn
    el("div", "bl-bar", scale).style.background = this.gradients[spec.colours];
    say(el("span", "", scale), short(spec.high));
    (this.heads ||= {})[spec.name] = node;
    return node;
  }
  draw(trait) {
    const group = this.read(trait);
    let start = 0;
    for (const spec of group.panels) {
      const [n, height, width] = spec.shape;
      const mine = group.codes.subarray(start, (start += n * height * width));
      for (let k = 0; k < Math.min(n, spec.large ? 1 : this.K); k++) this.cells[spec.name][k].draw(spec, k, mine, this.palettes[spec.colours], this.measured && this.sheet);
      const [low, , high] = this.heads[spec.name].lastChild.children;
      say(low, short(spec.low));
      say(high, short(spec.high));
    }
    if (trait === "steps") for (const panel of this.cells.bases || []) panel.marks = group.base_marks;
    if (trait === "steps") this.instance(group);
  }
  instance(group) {
    const boxes = this.boxes(), box = boxes[group.selected] || null;
    // A box that is on its way to the kernel is ahead of the answer to the one before: keys pressed quickly add up.
    if (group.selected !== this.selected || String(box) === String(this.sent)) this.sent = null;
    this.selected = group.selected;
    if (!this.sent) this.box = box;
    this.photo.outlines(boxes, group.selected, this.box);
    const mask = this.cells.probabilities && this.cells.probabilities[0];
    if (mask && box) this.photo.overlay(mask.codes, mask.spec.shape[1], box);
    else this.photo.mask.canvas.hidden = true;
    this.root.classList.toggle("bl-boxless", !box);
    this.place();
    this.sum(group.pixel);
    this.tell(group);
  }
  // where the box lies in maps of the whole image, and where crosshair and pin lie in the box: CSS does the rest
  place() {
    const style = this.root.style, { width, height } = this.photo;
    if (!this.box || String(this.box) === this.placed) return; // a variable set anew, even to the same, restyles the board
    this.placed = String(this.box);
    const [x1, y1, x2, y2] = this.box;
    for (const [name, value] of [["x", x1 / width], ["y", y1 / height], ["w", (x2 - x1) / width], ["h", (y2 - y1) / height]])
      style.setProperty(`--box-${name}`, value);
  }
  hover(panel, u, v) {
    this.root.classList.toggle("bl-hover", Boolean(panel));
    if (!panel) return (this.value.textContent = this.hint);
    if (panel.spec) this.value.textContent = panel.read(u, v);
    const image = panel.spec && panel.spec.space === "image", [x1, y1, x2, y2] = this.box || [0, 0, 1, 1];
    if (image) { // a point of the image may lie outside the box: the crosshair then leaves the box's panels
      u = (u * this.photo.width - x1) / (x2 - x1);
      v = (v * this.photo.height - y1) / (y2 - y1);
    }
    this.root.style.setProperty("--u", u);
    this.root.style.setProperty("--v", v);
  }
  pin(u, v) {
    const R = this.side();
    if (!R) return;
    this.aim = { row: Math.floor(v * R), column: Math.floor(u * R), R }; // a key that follows at once goes on from here
    this.send({ kind: "pixel", row: this.aim.row, column: this.aim.column });
  }
  // a board whose boxes stay where they are: arrow keys are steps, and a map of the image is as good as the photograph
  step(event, dx, dy) {
    event.preventDefault();
    this.send({ kind: "step", dx, dy });
  }
  point(u, v) {
    if (this.fixed) this.send({ kind: "click", x: u * this.photo.width, y: v * this.photo.height });
  }
  choose(cell) { // a cell of the bases or of the attention; null leaves the choice to the kernel
    this.aim = null;
    this.chosen = cell.row == null ? null : cell; // keys pressed faster than the kernel answers go on from here
    this.send({ kind: "cell", ...cell });
  }
  // a key while a cell is chosen, or one that chooses a cell: b or a for its map, a digit for its basis
  cellKey(event, arrow) {
    const map = { b: "bases", a: "attention" }[event.key], cell = this.chosen || this.read("steps").cell;
    if (map && this.cells?.[map]) this.choose({ name: map, k: cell?.k ?? 0, row: null, column: null });
    else if (!cell) return false;
    else if (arrow) {
      const [, height, width] = this.cells[cell.name][0].spec.shape;
      this.choose({ ...cell, row: clamp(cell.row + arrow[0], 0, height - 1), column: clamp(cell.column + arrow[1], 0, width - 1) });
    } else if (Number(event.key) < this.K && event.key !== " ") this.choose({ ...cell, k: Number(event.key) });
    else return false;
    event.preventDefault();
    return true;
  }
  side() { // of the last step's map
    return this.read("steps").panels.at(-1)?.shape[1] || 0;
  }
  key(event) {
    const arrows = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }, R = this.side();
    if (this.fixed && event.key in arrows) return this.step(event, arrows[event.key][1], arrows[event.key][0]);
    if (event.key === "Escape") return this.send({ kind: "pixel", row: null, column: null });
    if (this.cellKey(event, arrows[event.key])) return;
    if (event.key === "m") return this.pin(...(this.pinnedAt || [0.5, 0.5])); // back from a cell to the mask's pixel
    if (!(event.key in arrows) || !R) return;
    event.preventDefault();
    const pixel = (this.aim?.R === R && this.aim) || this.read("steps").pixel || { row: R >> 1, column: R >> 1 };
    const [row, column] = [pixel.row, pixel.column].map((x, i) => clamp(x + arrows[event.key][i], 0, R - 1));
    this.aim = { row, column, R };
    this.send({ kind: "pixel", row, column });
  }
  drag(box) {
    const nudge = this.model.get("nudge");
    if (nudge < 1) box = box.map((x) => Number((Math.round(x / nudge) * nudge).toFixed(6))); // and the hand moves as finely
    this.box = this.sent = box;
    this.photo.outlines(this.boxes(), this.read("steps").selected, box); // the outline follows at once, the panels when they come
    this.place();
    this.model.set("dragged", [...box, performance.now()]); // the time: to the box of an earlier drag is a drag too
    this.model.save_changes();
  }
  sum(pixel) {
    this.root.classList.toggle("bl-pinned", Boolean(pixel));
    if (!pixel || (pixel.row === this.aim?.row && pixel.column === this.aim?.column)) this.aim = null;
    if (!pixel) return this.table.replaceChildren();
    const R = this.side(), at = [(pixel.column + 0.5) / R, (pixel.row + 0.5) / R];
    if (String(at) !== this.pinned) {
      this.pinned = String(at);
      this.root.style.setProperty("--pin-u", at[0]);
      this.root.style.setProperty("--pin-v", at[1]);
      this.pinnedAt = at;
    }
    if (!pixel.rows.length) return this.table.replaceChildren(); // chosen, with no sum to show
    const table = el("table"), line = (cells, tag = "td") => {
      const row = el("tr", "", table);
      for (const text of cells) el(tag, "", row).textContent = text;
    };
    el("caption", "", table).textContent = `mask pixel: row ${pixel.row}, column ${pixel.column}`;
    line(["k", pixel.multiplied ? "r" : "base r", "weight s", pixel.multiplied ? "s · σ(r)" : "s · r"], "th");
    pixel.rows.forEach((row, k) => line([k, ...row]));
    line(["", "", pixel.multiplied ? "m = logit" : "m = sum", pixel.total]);
    line(["", "", "p = σ(m)", pixel.probability]);
    this.table.replaceChildren(table);
  }
  // what is told of the pixel's origin (it folds), or of the chosen cell's reach
  tell({ heading = "", lines = [], cell = null }) {
    const same = ({ name, k, row, column }) => [name, k, row, column].join();
    if (!cell || (this.chosen && same(cell) === same(this.chosen))) this.chosen = null;
    if (this.told.hidden === Boolean(lines.length)) this.told.hidden = !lines.length;
    this.told.classList.toggle("bl-reach", Boolean(cell));
    if (cell) this.told.open = true;
    else if (this.wasCell) this.told.open = false;
    this.wasCell = Boolean(cell);
    say(this.told.firstChild, heading);
    say(this.told.lastChild, lines.join("\n"));
  }
  words() {
    const get = (name) => this.model.get(name);
    say(this.text, get("text"));
    say(this.timing, get("timing"));
    this.photo.pointer.show(get("pointer"), this.photo.width, this.photo.height);
    if (get("notes") !== this.noted) this.notes.replaceChildren(...(this.noted = get("notes")).map((note) => Object.assign(el("p"), { textContent: note })));
    say(this.error, get("error"));
    if (get("error")) this.sent = this.aim = null;
    this.root.classList.toggle("bl-broken", Boolean(get("error"))); // no stale picture beside an error
  }
}

function render({ model, el: root }) {
  const view = new BoardView(model, root);
  view.show();
  const listeners = ["picture", "bases", "steps", "boxes", "pointer", "text", "timing", "notes", "error"].map((name) => {
    const touched = () => view.touch(name);
    model.on(`change:${name}`, touched);
    return () => model.off(`change:${name}`, touched);
  });
  return () => {
    listeners.forEach((stop) => stop());
    view.resized.disconnect();
    view.easel.stop();
  };
}
export default { render };
