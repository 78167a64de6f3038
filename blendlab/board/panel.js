// One panel: a map with its crosshair and pin. Coordinates: u, v run from 0 to 1 across the box.
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
