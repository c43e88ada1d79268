/**
 * Mouse, pen and fingers on a canvas of slices, in words of what they mean.
 *
 * Mouse: wheel scrolls, with Ctrl (or two fingers on a touch pad) it zooms; left points, right or
 * Shift drags the window, the middle button moves the picture, a double click shows all of it again.
 * Touch: one finger scrolls, a tap points, two fingers zoom and move.
 *
 * Where there is nothing to scroll through, `drag` takes the place of scrolling and of pointing on.
 */

const NOTCH = 50; // pixels of a wheel event from which it is one notch of a mouse wheel
const TOUCH_PAD_STEP = 30, FINGER_STEP = 7, TAP = 8; // CSS pixels

/**
 * `on`: scroll(point, slices), point(at), window(pixels right, pixels down), zoom(at, factor),
 * pan(at, pixels), reset(at), and for a single image drag(at, pixels). Points are CSS pixels of the
 * canvas. Ends with `signal`.
 */
export function listen(canvas, on, signal) {
  canvas.style.touchAction = "none";
  const listenTo = (name, handler) => canvas.addEventListener(name, handler, { signal, passive: false });
  const mouse = new Mouse(on), touch = new Touch(on);
  const kind = (event) => (event.pointerType === "touch" ? touch : mouse);
  listenTo("pointerdown", (event) => {
    canvas.setPointerCapture?.(event.pointerId);
    kind(event).down(event);
  });
  listenTo("pointermove", (event) => kind(event).move(event));
  listenTo("pointerup", (event) => kind(event).up(event));
  listenTo("pointercancel", (event) => kind(event).cancel(event));
  listenTo("contextmenu", (event) => event.preventDefault());
  listenTo("dblclick", (event) => on.reset(place(event)));
  listenTo("wheel", wheel(on));
}

const place = (event) => [event.offsetX, event.offsetY];

/** Down is towards the feet, as in other viewers. */
function wheel(on) {
  let rest = 0;
  return (event) => {
    event.preventDefault();
    if (event.ctrlKey) return on.zoom(place(event), Math.exp(-event.deltaY / 200));
    const isNotch = event.deltaMode !== 0 || Math.abs(event.deltaY) >= NOTCH;
    rest = isNotch ? 0 : rest + event.deltaY / TOUCH_PAD_STEP;
    const steps = isNotch ? Math.sign(event.deltaY) : Math.trunc(rest);
    rest -= isNotch ? 0 : steps;
    if (steps) on.scroll(place(event), -steps);
  };
}

class Mouse {
  #drag = null;

  constructor(on) {
    this.on = on;
  }

  down(event) {
    const isWindow = event.button === 2 || (event.button === 0 && event.shiftKey);
    const means = isWindow ? "window" : event.button === 1 ? "pan" : event.button === 0 ? "point" : null;
    if (event.button === 1) event.preventDefault(); // no scrolling of the page
    this.#drag = means && { means, at: place(event) };
    if (means === "point") this.on.point(place(event));
  }

  move(event) {
    if (!this.#drag) return;
    const at = place(event), { means, at: before } = this.#drag;
    const by = [at[0] - before[0], at[1] - before[1]];
    if (means === "window") this.on.window(...by);
    else if (means === "pan") this.on.pan(at, by);
    else if (this.on.drag) this.on.drag(at, by);
    else this.on.point(at);
    this.#drag.at = at;
  }

  up() {
    this.#drag = null;
  }

  cancel() {
    this.#drag = null;
  }
}

class Touch {
  #fingers = new Map();
  #start = null;
  #rest = 0;

  constructor(on) {
    this.on = on;
  }

  down(event) {
    this.#fingers.set(event.pointerId, place(event));
    this.#start = this.#fingers.size === 1 ? place(event) : null; // two fingers are no tap
    this.#rest = 0;
  }

  move(event) {
    const before = this.#fingers.get(event.pointerId);
    if (!before) return;
    const at = place(event);
    if (this.#fingers.size === 1) this.#scroll(before, at);
    else this.#pinch(event.pointerId, before, at);
    this.#fingers.set(event.pointerId, at);
  }

  up(event) {
    this.#fingers.delete(event.pointerId);
    if (this.#start && distance(this.#start, place(event)) < TAP) this.on.point(place(event));
    this.#start = null;
  }

  cancel(event) {
    this.#fingers.delete(event.pointerId);
    this.#start = null;
  }

  #scroll(before, at) {
    if (this.#start && distance(this.#start, at) < TAP) return;
    this.#start = null;
    if (this.on.drag) return this.on.drag(at, [at[0] - before[0], at[1] - before[1]]);
    this.#rest += (at[1] - before[1]) / FINGER_STEP;
    const slices = Math.trunc(this.#rest);
    this.#rest -= slices;
    if (slices) this.on.scroll(at, -slices);
  }

  #pinch(id, before, at) {
    const other = [...this.#fingers].find(([each]) => each !== id)[1];
    const middle = [(other[0] + at[0]) / 2, (other[1] + at[1]) / 2];
    this.on.pan(middle, [(at[0] - before[0]) / 2, (at[1] - before[1]) / 2]);
    this.on.zoom(middle, Math.max(distance(other, at), 1) / Math.max(distance(other, before), 1));
  }
}

const distance = ([x, y], [toX, toY]) => Math.hypot(toX - x, toY - y);
