// Drawing on the photograph: a new box, and a mask brushed and erased, by pointer or by keys. The page shows a stroke as
// the line that it is; which pixels it covers is the kernel's to say (blendlab.pictures.Brushed), and comes back as bits.

const TOOLS = {
  box: { name: "a new box", hint: "Drag from one corner of the object to the other." },
  brush: { name: "brush", hint: "Brush over the object." },
  erase: { name: "eraser", hint: "Brush over what is not the object." },
};

class Easel {
  constructor(board, photo) {
    Object.assign(this, { board, photo, model: board.model, pending: [], stroke: null, count: 0, svg: null });
    const listen = { tool: () => this.take(), brush: () => this.draw(), painted: () => this.painted(), picture: () => this.take(), error: () => this.drop() };
    for (const [name, act] of Object.entries(listen)) this.model.on(`change:${name}`, act, this);
    this.take();
  }
  build() { // when a tool is first taken: most boards have none
    this.mask = new Picture(null, "bl-painted");
    this.photo.svg.before(this.mask.canvas); // below the boxes
    this.svg = this.photo.node.appendChild(document.createElementNS(SVG, "svg"));
    for (const [name, value] of Object.entries({ class: "bl-easel", tabindex: "0", role: "application", preserveAspectRatio: "none" })) this.svg.setAttribute(name, value);
    const on = (name, act) => this.svg.addEventListener(name, act);
    on("pointerdown", (e) => this.down(e));
    on("pointermove", (e) => this.move(e));
    on("pointerup", () => this.lift());
    on("pointercancel", () => this.drop());
    on("pointerleave", () => this.stroke || this.aim(null));
    on("keydown", (e) => this.key(e));
    this.painted();
  }
  stop() {
    this.model.off(null, null, this);
  }
  get tool() { return this.model.get("tool"); }
  get hint() { return TOOLS[this.tool]?.hint; }
  get radius() { return this.model.get("brush"); }

  // another tool, or another picture: what was under way is given up
  take() {
    if (this.tool && !this.svg) this.build();
    if (!this.svg) return;
    const { width, height } = this.model.get("picture");
    this.svg.setAttribute("viewBox", `0 0 ${width || 1} ${height || 1}`);
    this.board.root.classList.toggle("bl-drawing", Boolean(this.tool));
    say(this.board.value, this.board.hint);
    this.cursor = null;
    this.drop();
  }
  drop() {
    this.stroke = null;
    this.pending = [];
    this.draw();
  }
  at(event) {
    const r = this.svg.getBoundingClientRect(), { width, height } = this.photo;
    return [((event.clientX - r.left) / r.width) * width, ((event.clientY - r.top) / r.height) * height];
  }
  aim(point) {
    this.cursor = point;
    if (point && this.stroke) this.stroke.points.push(point);
    this.draw();
  }
  put(point) { // the brush comes down, or a box's first corner is set
    this.stroke = { points: [point], radius: this.radius, erase: this.tool === "erase", id: ++this.count };
    this.aim(point);
  }
  lift() {
    const { stroke, tool } = this;
    this.stroke = null;
    if (!stroke) return;
    if (tool === "box") {
      const box = corners(stroke.points, this.photo);
      if (box[2] - box[0] >= 2 && box[3] - box[1] >= 2) this.board.send({ kind: "new_box", box });
    } else {
      this.pending.push(stroke); // it stays in sight until the kernel's pixels are there
      this.board.send({ kind: "stroke", ...stroke, points: stroke.points.map((p) => p.map((c) => Math.round(10 * c) / 10)) });
    }
    this.draw();
  }
  down(event) {
    if (event.button) return;
    this.svg.setPointerCapture(event.pointerId);
    this.svg.focus({ preventScroll: true });
    this.put(this.at(event));
  }
  move(event) {
    const seen = this.stroke && event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const one of seen.length ? seen : [event]) this.aim(this.at(one));
  }
  key(event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }, { width, height } = this.photo;
    const [x, y] = this.cursor || [width / 2, height / 2];
    if (event.key in arrows) {
      const [dx, dy] = arrows[event.key].map((d) => d * (event.shiftKey ? 10 : 1));
      this.aim([clamp(x + dx, 0, width), clamp(y + dy, 0, height)]);
    } else if (event.key === " " || event.key === "Enter") this.stroke ? this.lift() : this.put([x, y]);
    else if (event.key === "Escape") this.drop();
    else return;
    event.preventDefault();
  }
  draw() {
    if (!this.svg) return;
    this.svg.replaceChildren();
    const add = (tag, cls, attributes) => {
      const node = this.svg.appendChild(document.createElementNS(SVG, tag));
      node.setAttribute("class", cls);
      for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    };
    const { tool, stroke, cursor, radius } = this;
    if (!tool) return;
    for (const { points, radius, erase } of tool === "box" ? this.pending : [...this.pending, ...(stroke ? [stroke] : [])])
      add("polyline", erase ? "bl-erasing" : "bl-brushing", { points: [...points, points.at(-1)].join(" "), "stroke-width": 2 * radius });
    if (tool === "box" && stroke) {
      const [x, y, right, bottom] = corners(stroke.points, this.photo);
      for (const cls of ["bl-halo", "bl-box"]) add("rect", cls, { x, y, width: right - x, height: bottom - y });
    }
    const [cx, cy] = cursor || [];
    if (cursor && tool !== "box") for (const cls of ["bl-rim", "bl-tip"]) add("circle", cls, { cx, cy, r: radius });
    if (cursor && tool === "box") for (const cls of ["bl-rim", "bl-tip"]) add("path", cls, { d: `M${cx - 8} ${cy}h16M${cx} ${cy - 8}v16` });
    const place = cursor ? `at ${cx.toFixed(0)}, ${cy.toFixed(0)}, ${stroke ? "down" : "up"}` : "";
    this.svg.setAttribute("aria-label", `${TOOLS[tool].name}${tool === "box" ? "" : ` of radius ${radius}`} ${place}. ` +
      "Arrow keys move it by a pixel, with Shift by ten; Space puts it down and lifts it; Escape gives up.");
  }
  painted() {
    if (!this.svg) return;
    const { width, height, bits, last } = this.model.get("painted"), { canvas } = this.mask;
    this.pending = this.pending.filter((stroke) => stroke.id > last);
    canvas.hidden = !bits;
    if (bits) {
      const packed = bytes(bits);
      this.mask.resize(width, height);
      for (let i = 0; i < width * height; i++) this.mask.words[i] = (packed[i >> 3] >> (7 - (i & 7))) & 1 ? 0x99009fe6 : 0;
      this.mask.context.putImageData(this.mask.image, 0, 0);
    }
    this.draw();
  }
}

// the box between the first and the last point, within the picture
const corners = (points, { width, height }) => {
  const [[ax, ay], [bx, by]] = [points[0], points.at(-1)].map(([x, y]) => [clamp(x, 0, width), clamp(y, 0, height)]);
  return [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
};

