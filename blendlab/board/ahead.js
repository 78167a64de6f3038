// The pictures one step to either side of a slider, so that a step of the hand is on the screen in the next frame. When the
// hand rests, the page asks for them (Board.on_ahead). The kernel's answer to the step comes as ever, and has the last word:
// it is drawn anew only where it differs.
const REST = 50; // ms: longer than a held key's beat, so that a moving hand asks for nothing

class Ahead {
  constructor(board) {
    Object.assign(this, { board, model: board.model, near: new Map(), shown: null, slider: null, watched: [], timer: 0 });
    this.hear = (content, codes) => this.arrived(content, codes);
    this.model.on("msg:custom", this.hear);
    for (const id of this.model.get("sliders")) this.watch(id);
  }
  async watch(id) {
    const manager = this.model.widget_manager;
    if (!manager.has_model(id)) return; // a saved page without its sliders
    const slider = await manager.get_model(id);
    const moved = (_, value, { updated_view }) => updated_view && this.moved(slider, value); // by a hand, not by the kernel
    slider.on("change:value change:index", moved, this); // a slider of shares is known by the index of its place
    this.watched.push(slider);
  }
  stop() {
    clearTimeout(this.timer);
    this.model.off("msg:custom", this.hear);
    for (const slider of this.watched) slider.off(null, null, this);
  }
  moved(slider, value) {
    this.slider = slider;
    const picture = this.near.get(`${slider.model_id} ${value}`);
    if (!picture || this.board.sent) return this.rest(); // a dragged box is on its way: these are of the old one
    this.shown = picture;
    this.near.clear(); // they lie beside the value that was
    queueMicrotask(() => this.shown === picture && this.board.layout(new Set(["steps"]))); // after the value has gone to the kernel
  }
  rest() {
    clearTimeout(this.timer);
    const { slider } = this;
    const ask = () => slider.comm_live && this.board.send({ kind: "ahead", slider: slider.model_id }); // not of a kernel that is gone
    if (slider) this.timer = setTimeout(ask, REST);
  }
  arrived({ kind, slider, serial, values, words }, codes) {
    if (kind !== "ahead" || serial !== this.model.get("steps").serial) return;
    this.near = new Map(values.map((value, i) => [`${slider} ${value}`, { words: words[i], codes: codes[i] }]));
  }
  // the kernel's own steps are here; true if they are the ones on the screen
  came(steps) {
    const { shown } = this;
    this.drop();
    this.rest();
    return Boolean(shown) && shown.words === steps.words && same(bytes(shown.codes), bytes(steps.codes));
  }
  drop() {
    this.shown = null;
    this.near.clear();
  }
}

const same = (a, b) => a.length === b.length && a.every((code, i) => code === b[i]);
