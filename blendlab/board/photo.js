// The photograph: boxes, mask, drag and keys. The one thing that the page computes itself is the paste of the mask, by the
// rule of blendlab.paste_masks.
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
    this.node.style.maxWidth = `calc(75vh * ${width / height})`; // a tall one fits the window, and can be drawn on whole
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
