// One canvas under the grid of panels: colours, scaling, and points over the maps. What all of the page's files use comes
// first, since this file does.

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
const ends = (spec) => spec.ends || [short(spec.low), short(spec.high)]; // what stands at the ends of the colours

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
