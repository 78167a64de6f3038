// The page's side of the board: it draws numbers that the kernel computed. Rows are bases, columns are steps.
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
    this.ahead = new Ahead(this);
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
    if (own || this.photo.node.hidden) return own || "Click a map, or use the arrow keys, to choose a pixel.";
    return this.model.get("boxes").length ? "Click an instance, drag its box or its handles, click a mask pixel." : "";
  }
  row(k) { return this.model.get("rows")[k] ?? `k = ${k}`; }

  read(trait) { // the panels of "bases" or "steps", their words parsed once
    const group = (trait === "steps" && this.ahead?.shown) || this.model.get(trait);
    if (!group.words) return { panels: [] };
    if (this.parsed?.[trait]?.from !== group) (this.parsed ||= {})[trait] = { from: group, codes: bytes(group.codes), ...JSON.parse(group.words) };
    return this.parsed[trait];
  }
  boxes() { // [[x1, y1, x2, y2], ...]
    const flat = this.read("steps").boxes || this.model.get("boxes");
    return Array.from({ length: flat.length / 4 }, (_, i) => flat.slice(4 * i, 4 * i + 4));
  }

  show() { // everything the model holds; a new view starts here
    this.photo.node.hidden = !this.model.get("picture").rgb;
    this.main.classList.toggle("bl-alone", this.photo.node.hidden);
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
        if (names.has("steps") && this.ahead.came(this.model.get("steps"))) names.delete("steps");
        if (names.has("picture")) return this.show();
        if (names.has("bases") || names.has("steps")) this.layout(names);
        else if (names.has("boxes") && !this.read("steps").boxes) this.instance(this.read("steps")); // their own are drawn
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
    const [low, high] = ends(spec);
    say(el("span", "", scale), low); // at once: the panels are measured before they are drawn
    el("div", "bl-bar", scale).style.background = this.gradients[spec.colours];
    say(el("span", "", scale), high);
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
      [low, high].forEach((node, i) => say(node, ends(spec)[i]));
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
    if (!panel) return say(this.value, this.hint);
    if (panel.spec) say(this.value, panel.read(u, v));
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
    if (!this.root.classList.contains("bl-hover")) say(this.value, this.hint);
    say(this.timing, get("timing"));
    this.photo.pointer.show(get("pointer"), this.photo.width, this.photo.height);
    if (get("notes") !== this.noted) this.notes.replaceChildren(...(this.noted = get("notes")).map((note) => Object.assign(el("p"), { textContent: note })));
    say(this.error, get("error"));
    if (get("error")) {
      this.sent = this.aim = null;
      this.ahead.drop();
    }
    this.root.classList.toggle("bl-broken", Boolean(get("error"))); // no stale picture beside an error
  }
}

function render({ model, el: root }) {
  const view = new BoardView(model, root);
  view.show();
  const listeners = ["picture", "bases", "steps", "boxes", "pointer", "hint", "text", "timing", "notes", "error"].map((name) => {
    const touched = () => view.touch(name);
    model.on(`change:${name}`, touched);
    return () => model.off(`change:${name}`, touched);
  });
  return () => {
    listeners.forEach((stop) => stop());
    view.resized.disconnect();
    view.easel.stop();
    view.ahead.stop();
  };
}
export default { render };
