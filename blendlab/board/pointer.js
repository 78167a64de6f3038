// Dots, lines and labelled cells over the photograph, in image pixels: what an explorer points at, as vectors, so that
// they stay sharp however far the photograph is enlarged. Comes before board.js in the widget's one file.
class Pointer {
  constructor(parent) {
    Object.assign(this, { parent, svg: null, said: "" });
  }
  // words: JSON {"dots": [[x, y], ...], "lines": [[x1, y1, x2, y2], ...], "cells": [[x, y, side, text], ...]}, or ""
  show(words, width, height) {
    if (words === this.said) return;
    this.said = words;
    if (this.svg) this.svg.replaceChildren();
    if (!words) return;
    this.svg ||= this.parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
    this.svg.setAttribute("class", "bl-pointer");
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("aria-hidden", "true"); // the board's text says it
    const { dots = [], lines = [], cells = [] } = JSON.parse(words);
    const path = (cls, d) => this.add("path", { class: cls, d });
    const line = lines.map(([x1, y1, x2, y2]) => `M${x1} ${y1}L${x2} ${y2}`).join("");
    path("bl-line-halo", line);
    path("bl-line", line);
    for (const [x, y, side] of cells) path("bl-cell-halo", `M${x} ${y}h${side}v${side}h${-side}z`);
    for (const [x, y, side] of cells) path("bl-cell", `M${x} ${y}h${side}v${side}h${-side}z`);
    const dot = dots.map(([x, y]) => `M${x} ${y}h0`).join("");
    path("bl-dot-halo", dot);
    path("bl-dot", dot);
    for (const [x, y, side, text] of cells) {
      const node = this.add("text", { x: x + side / 2, y: y + side / 4, "font-size": Math.min(side / 3, width / 26) });
      node.textContent = text;
    }
  }
  add(tag, attributes) {
    const node = this.svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", tag));
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  }
}

