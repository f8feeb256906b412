// ---- one opened episode: its clip and those beside it on one clock, its curves, its facts

const clock = { step: 0, running: false, speed: 1, last: 0, at: null, shown: [], draw: [] };
const MOST_TOLD = 12;
const MOST_AT_ONCE = 3;

const stepsOf = (episode) => Math.max(episode.steps, episode.frames - 1, 0);

function seek(video, episode, step) {
  // Frames that were kept are the last ones; the middle of a frame is never its neighbour.
  const frame = Math.min(Math.max(step - (episode.steps + 1 - episode.frames), 0), episode.frames - 1);
  video.currentTime = (Math.floor(frame) + 0.5) / episode.hz;
}

function toStep(step) {
  const longest = Math.max(...clock.shown.map(([, episode]) => stepsOf(episode)));
  clock.step = Math.min(Math.max(step, 0), longest);
  for (const [video, episode] of clock.shown) if (video.tagName === "VIDEO") seek(video, episode, clock.step);
  clock.draw.forEach((call) => call(Math.floor(clock.step)));
}

function start(running) {
  const longest = Math.max(...clock.shown.map(([, episode]) => stepsOf(episode)));
  if (running && clock.step >= longest) toStep(0);
  clock.running = running;
  clock.last = performance.now();
  clock.draw.forEach((call) => call(Math.floor(clock.step)));
  if (running) requestAnimationFrame(tick);
}

function tick(now) {
  if (!clock.running || clock.at === null) return;
  const episode = clock.shown[0][1];
  const before = Math.floor(clock.step);
  const longest = Math.max(...clock.shown.map(([, other]) => stepsOf(other)));
  clock.step += ((now - clock.last) / 1000) * episode.hz * clock.speed;
  clock.last = now;
  if (clock.step >= longest) {
    toStep(longest);
    start(false);
    return;
  }
  if (Math.floor(clock.step) !== before) toStep(clock.step);
  requestAnimationFrame(tick);
}

function figureOf(episode, how, main, shown) {
  const view = picture(episode, false);
  shown.push([view, episode]);
  const link = el("strong", {}, how);
  return el("figure", { className: main ? "main" : "" }, view, el("div", { className: `edge ${episode.outcome}` }),
    el("figcaption", {}, link, " ", ...badges(episode), ` ${episode.artifact} `, copied(episode.id),
      episode.picture ? el("p", { className: "soft" }, episode.picture) : ""));
}

// ---- curves

const SVG = "http://www.w3.org/2000/svg";
function svg(tag, given) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(given)) made.setAttribute(name, value);
  return made;
}

function curveOf(name, unit, lines, longest) {
  const values = lines.flatMap((line) => line.values);
  let low = Math.min(...values), high = Math.max(...values);
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  const pad = (high - low) * 0.08;
  const x = (step) => (step / Math.max(1, longest)) * 100;
  const y = (value) => 100 - ((value - low + pad) / (high - low + 2 * pad)) * 100;
  const drawing = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img" });
  drawing.setAttribute("aria-label", name);
  for (const line of lines) {
    // An action is in force until the next one: it is drawn as steps.
    const points = line.held
      ? line.values.flatMap((value, step) => [[step, value], [step + 1, value]])
      : line.values.map((value, step) => [step, value]);
    drawing.append(svg("polyline", { class: line.kind, points: points.map(([step, value]) => `${x(step)},${y(value)}`).join(" ") }));
  }
  const cursor = svg("line", { x1: 0, x2: 0, y1: 0, y2: 100 });
  drawing.append(cursor);
  const go = (event) => {
    const box = drawing.getBoundingClientRect();
    start(false);
    toStep(Math.round(((event.clientX - box.left) / box.width) * longest));
  };
  drawing.addEventListener("pointerdown", (event) => { drawing.setPointerCapture(event.pointerId); go(event); });
  drawing.addEventListener("pointermove", (event) => { if (event.buttons) go(event); });
  const said = el("p", {});
  clock.draw.push((step) => {
    cursor.setAttribute("x1", x(step));
    cursor.setAttribute("x2", x(step));
    const shown = lines.filter((line) => line.kind !== "beside").map((line) =>
      el("span", { className: line.kind }, `${line.kind} ${(line.values[Math.min(step, line.values.length - 1)] ?? NaN).toFixed(3)}`));
    said.replaceChildren(el("strong", {}, unit ? `${name} [${unit}]` : name), ...shown);
  });
  const ends = [high, low].map((value) => el("i", {}, value.toPrecision(3)));
  return el("div", { className: "curve" }, said, el("div", { className: "plot" }, drawing, ...ends));
}

function curves(episode, others) {
  const names = data.numbers[episode.numbers];
  const column = (rows, place) => rows.map((row) => row[place]);
  const longest = Math.max(stepsOf(episode), ...others.map(stepsOf));
  const found = [];
  const used = new Set();
  names.state.forEach(([name, unit], place) => {
    if (!episode.states.length) return;
    const lines = others.filter((other) => data.numbers[other.numbers].state.some(([own]) => own === name) && other.states.length)
      .map((other) => ({ kind: "beside", values: column(other.states, data.numbers[other.numbers].state.findIndex(([own]) => own === name)) }));
    lines.push({ kind: "state", values: column(episode.states, place) });
    const action = names.action.findIndex(([own]) => own === name);
    if (action >= 0 && episode.actions.length) {
      used.add(action);
      lines.push({ kind: "action", held: true, values: column(episode.actions, action) });
    }
    found.push(curveOf(name, unit, lines, longest));
  });
  names.action.forEach(([name, unit], place) => {
    if (!used.has(place) && episode.actions.length)
      found.push(curveOf(name, unit, [{ kind: "action", held: true, values: column(episode.actions, place) }], longest));
  });
  if (episode.rewards.some((value) => value))
    found.push(curveOf("reward", "", [{ kind: "action", held: true, values: episode.rewards.map((value) => value ?? 0) }], longest));
  return el("div", { className: "curves" }, ...found);
}

// ---- facts

function meter(score) {
  const bar = el("span", { className: "meter" }, el("i", { style: `width: ${score.p * 100}%` }));
  if (score.alpha !== null) bar.append(el("b", { style: `left: ${score.alpha * 100}%`, title: `alpha ${score.alpha}` }));
  const verdict = score.alpha === null ? "" : score.p > score.alpha ? `above alpha ${score.alpha}` : `not above alpha ${score.alpha}`;
  return el("span", {}, score.p.toFixed(3), bar, verdict, el("p", { className: "soft" }, `by ${score.by}`));
}

function facts(episode) {
  const rows = [
    ["id", copied(episode.id)],
    ["held by", el("span", {}, episode.artifact, " ", copied(episode.artifact_id))],
    ["task", episode.task],
    ["instruction", episode.instruction],
    ["outcome", outcomeText(episode) + (episode.label ? ` (label: ${episode.label})` : "")],
    ["recorded as", episode.labels.length ? episode.recorded : ""],
    ["P(yes)", scoreOf(episode) !== null ? meter(episode.score) : ""],
    ["true outcome", episode.score && episode.score.truth !== undefined
      ? `${episode.score.truth ? "success" : "failure"} (the same actions on the simulator)` : ""],
    ["quarantine", episode.quarantined === null ? "" : `in quarantine. ${episode.quarantined}`],
    ["source", `${episode.purpose}, in ${episode.world || "the robot"}`],
    ["starts from", episode.start ? copied(episode.start) : ""],
    ["length", `${episode.steps} steps at ${episode.hz} Hz`],
    ["cameras", `${episode.cameras.join(", ")} (${episode.size})`],
    ["seed", episode.seed],
    ["policy", episode.policy ? copied(episode.policy) : ""],
    ["world model", episode.world_model ? copied(episode.world_model) : ""],
    ...Object.entries(episode.extra),
  ];
  return el("table", { className: "facts" }, ...rows.filter(([, value]) => value !== "" && value !== null)
    .map(([name, value]) => el("tr", {}, el("th", {}, name), el("td", {}, value))));
}

function reach(episode) {
  const found = episode.reached;
  if (!found) return [];
  const items = found.told.slice(0, MOST_TOLD).map(([name, how, current]) =>
    el("li", {}, name, el("span", { className: "soft" }, ` ${how}${current ? "" : ", replaced since"}`)));
  if (found.told.length > MOST_TOLD) items.push(el("li", { className: "soft" }, `and ${found.told.length - MOST_TOLD} more`));
  return [el("h2", {}, found.total ? `Reached ${found.total} artifacts` : "Reached nothing"), el("ul", {}, ...items),
    found.total ? el("p", {}, copied(`vlaw impact ${episode.id}`)) : ""];
}

function neighbours(episode, on) {
  const item = (other, index) => {
    const target = episodes[other.episode];
    const box = el("input", { type: "checkbox", checked: on.has(index) });
    box.addEventListener("change", () => {
      if (box.checked) on.add(index);
      else on.delete(index);
      render();
    });
    return el("li", {}, el("label", {}, box, " ", other.how), " ", ...badges(target), el("span", { className: "soft" },
      `${target.task}, ${target.artifact} `), copied(target.id));
  };
  const list = (title, wanted) => {
    const items = episode.beside.map((other, index) => [other, index]).filter(([other]) => other.like === wanted);
    return items.length ? [el("h2", {}, title), el("ul", {}, ...items.map(([other, index]) => item(other, index)))] : [];
  };
  const like = list("Like it", true);
  return [...list("Beside it", false), ...(like.length ? like : [el("h2", {}, "Like it"), el("p", {}, copied(`vlaw similar ${episode.id}`))])];
}

// ---- opening and closing

let ticked = new Map();

function render() {
  const tile = data.tiles[clock.at];
  const [episode, ...partners] = tile.episodes.map((number) => episodes[number]);
  if (!ticked.has(clock.at))
    ticked.set(clock.at, new Set(episode.beside.map((other, index) => [other, index]).filter(([other]) => !other.like)
      .slice(0, MOST_AT_ONCE - 1).map(([, index]) => index)));
  const on = ticked.get(clock.at);
  clock.shown = [];
  clock.draw = [];
  const others = [...on].sort((a, b) => a - b).map((index) => episode.beside[index]);
  const figures = [
    figureOf(episode, sides[0] || "this episode", partners.length + others.length !== 1, clock.shown),
    ...partners.map((partner, side) => figureOf(partner, sides[side + 1], false, clock.shown)),
    ...others.map((other) => figureOf(episodes[other.episode], other.how, false, clock.shown)),
  ];
  const compared = [...partners, ...others.filter((other) => !other.like).map((other) => episodes[other.episode])];
  const longest = Math.max(...clock.shown.map(([, shown]) => stepsOf(shown)));
  const slider = el("input", { type: "range", min: 0, max: longest, step: 1, id: "scrubber", ariaLabel: "Step" });
  slider.addEventListener("input", () => {
    const wanted = Number(slider.value); // stopping draws the slider where the clock is
    start(false);
    toStep(wanted);
  });
  const said = el("output", {});
  const play = el("button", { type: "button", id: "play", title: "Space" });
  play.addEventListener("click", () => start(!clock.running));
  const speed = el("select", { ariaLabel: "Speed" }, ...[0.25, 0.5, 1, 2, 4].map((value) =>
    el("option", { value, selected: value === clock.speed }, `${value}×`)));
  speed.addEventListener("change", () => (clock.speed = Number(speed.value)));
  clock.draw.push((step) => {
    slider.value = step;
    said.textContent = `step ${step} of ${longest} · ${(step / episode.hz).toFixed(1)} s`;
    play.textContent = clock.running ? "❚❚" : "▶";
  });
  const step = (by) => el("button", { type: "button", on: { click: () => { start(false); toStep(Math.floor(clock.step) + by); } } }, by > 0 ? "+1" : "−1");
  const grey = compared.length ? `, grey: state ${partners.length ? `of ${sides[1]}` : "of those beside it"}` : "";
  detail.replaceChildren(
    el("div", { className: "head" }, el("strong", {}, `${episode.task} `), ...badges(episode), copied(episode.id),
      el("span", { className: "soft" }, el("kbd", {}, "space"), " play ", el("kbd", {}, "← →"), " step ", el("kbd", {}, "↑ ↓"), " episode ", el("kbd", {}, "esc"), " close"),
      el("span", { className: "right" },
        el("button", { type: "button", on: { click: () => neighbour(-1) } }, "previous"),
        el("button", { type: "button", on: { click: () => neighbour(1) } }, "next"),
        el("button", { type: "button", id: "close", on: { click: shut } }, "close"))),
    el("div", { className: "columns" },
      el("div", {}, el("div", { className: "stage" }, ...figures),
        el("div", { className: "transport" }, play, step(-1), step(1), slider, said, speed),
        el("h2", {}, "State and action ", el("span", { className: "soft" }, `solid: state, dashed: action${grey}`)), curves(episode, compared)),
      el("div", {}, facts(episode), ...labelBox(episode), ...neighbours(episode, on), ...reach(episode))));
  toStep(Math.min(clock.step, longest));
}

function open(place) {
  if (clock.at !== null) tiles[clock.at].classList.remove("chosen");
  const changed = clock.at !== place;
  clock.at = place;
  if (changed) Object.assign(clock, { step: 0, running: false });
  tiles[place].classList.add("chosen");
  detail.hidden = false;
  render();
  history.replaceState(null, "", `#${encodeURIComponent(first(data.tiles[place]).id)}`);
  if (!single) detail.scrollIntoView({ block: "start" });
}

function shut() {
  clock.running = false;
  const place = clock.at;
  clock.at = null;
  detail.hidden = true;
  detail.replaceChildren();
  history.replaceState(null, "", "#");
  if (place !== null) {
    tiles[place].classList.remove("chosen");
    tiles[place].focus();
  }
}

function neighbour(by) {
  const places = visible.map(([, place]) => place);
  if (!places.length) return;
  const next = (places.indexOf(clock.at) + by + places.length) % places.length;
  open(places[next]);
}

document.addEventListener("keydown", (event) => {
  if (clock.at === null || ["INPUT", "SELECT", "BUTTON", "TEXTAREA"].includes(event.target.tagName) && event.key !== "Escape") return;
  const label = data.labelling && data.labelling.labels[Number(event.key) - 1];
  if (label) document.getElementById(`label-${label}`).click();
  const act = {
    " ": () => start(!clock.running),
    ArrowLeft: () => { start(false); toStep(Math.floor(clock.step) - 1); },
    ArrowRight: () => { start(false); toStep(Math.floor(clock.step) + 1); },
    ArrowUp: () => neighbour(-1),
    ArrowDown: () => neighbour(1),
    Escape: single ? null : shut,
  }[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

function fromAddress() {
  const id = decodeURIComponent(location.hash.slice(1));
  const place = id ? data.tiles.findIndex((tile) => tile.episodes.some((number) => episodes[number].id === id)) : -1;
  if (place >= 0 && clock.at !== place) open(place);
}
window.addEventListener("hashchange", fromAddress);
if (single) open(0);
else fromAddress();
