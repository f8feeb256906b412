"use strict";
// A page of episodes: filters, a grid of clips, and one opened episode. Every text of the data is set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const sources = JSON.parse(document.getElementById("clips").textContent);
const episodes = data.episodes;
const sides = data.summary.sides;

// ---- elements

function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "on") for (const [event, call] of Object.entries(value)) made.addEventListener(event, call);
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

function copied(text, shown = text) {
  const button = el("button", { className: "id", title: "Copy: " + text, type: "button" }, shown);
  button.addEventListener("click", async (event) => {
    event.stopPropagation();
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
      setTimeout(() => (button.textContent = shown), 900);
    } catch {
      getSelection().selectAllChildren(button);
    }
  });
  return button;
}

const urls = new Map();
function address(clip) {
  if (!urls.has(clip)) {
    const source = sources[clip];
    if (source.startsWith("data:")) {
      const bytes = Uint8Array.from(atob(source.slice(source.indexOf(",") + 1)), (char) => char.charCodeAt(0));
      urls.set(clip, URL.createObjectURL(new Blob([bytes], { type: "video/mp4" })));
    } else urls.set(clip, source);
  }
  return urls.get(clip);
}

function shapeOf(episode) {
  const [width, height] = episode.size.split("x").map(Number);
  return (width * Math.max(1, episode.cameras.length)) / height || 3;
}

function picture(episode, waits) {
  if (episode.clip === null) return el("div", { className: "none", style: `--shape: ${shapeOf(episode)}` }, "no frames");
  const video = el("video", { muted: true, loop: waits, playsInline: true, preload: "auto" });
  video.style.setProperty("--shape", shapeOf(episode));
  video.setAttribute("aria-label", `${episode.task}, ${episode.outcome}`);
  if (waits) video.dataset.clip = episode.clip;
  else video.src = address(episode.clip);
  return video;
}

// ---- what is shown of an episode

const outcomeClass = (episode) => (["success", "failure"].includes(episode.outcome) ? episode.outcome : "plain");
const scoreOf = (episode) => (episode.score && episode.score.p !== undefined ? episode.score.p : null);

function outcomeText(episode) {
  return episode.event && episode.event !== episode.outcome ? `${episode.outcome}: ${episode.event}` : episode.outcome;
}

function badges(episode) {
  const found = [el("span", { className: `badge ${outcomeClass(episode)}` }, outcomeText(episode))];
  if (scoreOf(episode) !== null) found.push(el("span", { className: "badge plain" }, `P(yes) ${scoreOf(episode).toFixed(2)}`));
  if (episode.score && episode.score.truth !== undefined) {
    const truth = episode.score.truth ? "success" : "failure";
    found.push(el("span", { className: `badge ${truth}`, title: "What the simulator says of the same actions" }, `true: ${truth}`));
  }
  if (episode.quarantined !== null) found.push(el("span", { className: "badge failure" }, "quarantined"));
  return found;
}

// ---- filters

const fields = [
  ["group", "Group", (tile) => tile.group],
  ["task", "Task", (tile) => first(tile).task],
  ["outcome", "Outcome", (tile) => first(tile).outcome],
  ["truth", "True outcome", (tile) => truthOf(first(tile))],
  ["purpose", "Source", (tile) => first(tile).purpose],
  ["partition", "Iteration", (tile) => first(tile).partition],
];
const truthOf = (episode) =>
  !episode.score || episode.score.truth === undefined ? "not known" : episode.score.truth ? "success" : "failure";
const first = (tile) => episodes[tile.episodes[0]];
const chosen = Object.fromEntries(fields.map(([name]) => [name, new Set()]));
const scored = { low: 0, high: 1 };
const orders = {
  "as given": () => 0,
  "P(yes), high first": (a, b) => (scoreOf(first(b)) ?? -1) - (scoreOf(first(a)) ?? -1),
  "P(yes), low first": (a, b) => (scoreOf(first(a)) ?? 2) - (scoreOf(first(b)) ?? 2),
  "failures first": (a, b) => (first(b).outcome === "failure") - (first(a).outcome === "failure"),
  "longest first": (a, b) => first(b).steps - first(a).steps,
};
let order = "as given";
let playing = false;

function admitted(tile) {
  const p = scoreOf(first(tile));
  const inRange = (scored.low === 0 && scored.high === 1) || (p !== null && p >= scored.low && p <= scored.high);
  return inRange && fields.every(([name, , of]) => !chosen[name].size || chosen[name].has(of(tile)));
}

function chip(name, value, label) {
  const button = el("button", { type: "button" }, label);
  button.dataset.field = name;
  button.dataset.value = value;
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    chosen[name][chosen[name].has(value) ? "delete" : "add"](value);
    update();
  });
  return button;
}

function toolbar() {
  const bar = el("div", { className: "bar" });
  for (const [name, label, of] of fields) {
    const counts = new Map();
    for (const tile of data.tiles) counts.set(of(tile), (counts.get(of(tile)) || 0) + 1);
    // Of pairs the groups say how both ended, and stand above.
    if (counts.size < 2 || (sides.length && ["group", "outcome"].includes(name))) continue;
    const values = [...counts.keys()];
    const box = el("div", { role: "group", ariaLabel: label }, el("span", { className: "soft" }, label));
    box.append(...values.map((value) => chip(name, value, `${value} ${counts.get(value)}`)));
    bar.append(box);
  }
  if (data.tiles.some((tile) => scoreOf(first(tile)) !== null)) {
    const said = el("span", {}, "0.00 to 1.00");
    const slider = (which, start) => {
      const input = el("input", { type: "range", min: 0, max: 1, step: 0.01, value: start, ariaLabel: `P(yes) ${which}` });
      input.addEventListener("input", () => {
        scored[which] = Number(input.value);
        said.textContent = `${scored.low.toFixed(2)} to ${scored.high.toFixed(2)}`;
        update();
      });
      return input;
    };
    bar.append(el("div", {}, el("span", { className: "soft" }, "P(yes)"), slider("low", 0), slider("high", 1), said));
  }
  const sort = el("select", { ariaLabel: "Order" }, ...Object.keys(orders).map((name) => el("option", {}, name)));
  sort.addEventListener("change", () => { order = sort.value; update(); });
  const size = el("select", { ariaLabel: "Size" }, ...[["small", 220], ["medium", 320], ["large", 480]].map(([name, width]) =>
    el("option", { value: `${width}px`, selected: name === "medium" }, name)));
  size.addEventListener("change", () => grid.style.setProperty("--tile", `calc(${size.value} * ${sides.length ? 1.7 : 1})`));
  const play = el("button", { type: "button", id: "play-all" }, "▶ play all");
  play.addEventListener("click", () => {
    playing = !playing;
    play.textContent = playing ? "❚❚ stop all" : "▶ play all";
    for (const video of grid.querySelectorAll("video[src]")) run(video, playing);
  });
  bar.append(el("div", { className: "right" }, count, sort, size, play));
  return bar;
}

// ---- the grid

const grid = el("div", { className: "grid" });
const count = el("span", { className: "soft", id: "count" });

function run(video, on) {
  if (on) video.play().catch(() => {});
  else video.pause();
}

// Only clips that can be seen are loaded: a browser has a limit of players.
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting && !target.src) {
      target.src = address(Number(target.dataset.clip));
      run(target, playing);
    } else if (!isIntersecting && target.src) {
      target.removeAttribute("src");
      target.load();
    }
  }
}, { rootMargin: "300px" });

function tileOf(tile, place) {
  const views = el("div", { className: "views" });
  tile.episodes.forEach((number, side) => {
    const box = el("div", { className: episodes[number].outcome }, picture(episodes[number], true));
    if (sides.length) box.append(el("span", { className: "side" }, sides[side]), el("div", { className: "edge" }));
    views.append(box);
  });
  const episode = first(tile);
  const lines = el("div", { className: "results" }, ...tile.episodes.map((number) => el("p", {}, ...badges(episodes[number]))));
  const named = episode.instruction && episode.instruction !== episode.task ? ` “${episode.instruction}”` : "";
  const article = el("article", { className: sides.length ? "" : episode.outcome, tabIndex: 0 },
    views, sides.length ? "" : el("div", { className: "edge" }),
    el("div", { className: "caption" },
      el("p", { title: episode.instruction }, el("strong", {}, episode.task), named), lines,
      el("p", { className: "soft foot" }, `${episode.purpose} · ${episode.partition}`, copied(episode.id))));
  article.dataset.place = place;
  article.addEventListener("click", () => open(place));
  article.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target === article) open(place); });
  const videos = [...article.querySelectorAll("video")];
  article.addEventListener("mouseenter", () => videos.forEach((video) => run(video, true)));
  article.addEventListener("mouseleave", () => videos.forEach((video) => run(video, playing)));
  return article;
}

const tiles = data.tiles.map(tileOf);
let visible = [];

function update() {
  visible = data.tiles.map((tile, place) => [tile, place]).filter(([tile]) => admitted(tile));
  visible.sort(([a], [b]) => orders[order](a, b));
  grid.replaceChildren(...visible.map(([, place]) => tiles[place]));
  if (!visible.length) grid.append(el("p", { className: "soft" }, "No episode fits these filters."));
  const shown = visible.flatMap(([tile]) => tile.episodes.map((number) => episodes[number].outcome));
  const tally = ["success", "failure", "not judged"].map((name) => [shown.filter((value) => value === name).length, name]);
  const listed = tally.filter(([number]) => number).map(([number, name]) => `${number} ${name}`).join(", ");
  count.textContent = `${visible.length} of ${data.tiles.length}` + (sides.length ? " pairs" : ` · ${listed}`);
  for (const button of document.querySelectorAll("button[data-field]"))
    button.setAttribute("aria-pressed", chosen[button.dataset.field].has(button.dataset.value));
}

// The numbers beside the filters again, after a label changed an outcome.
function refreshBar() {
  const fresh = toolbar();
  bar.replaceWith(fresh);
  bar = fresh;
}

// ---- the page

function heading() {
  const top = el("header", {}, el("h1", {}, data.title), el("p", { className: "soft" }, data.about));
  if (data.as_of) top.append(el("p", {}, `The lake as of ${data.as_of}.`));
  if (data.cut) top.append(el("p", { className: "cut" }, data.cut));
  for (const line of data.summary.lines) top.append(el("p", {}, line));
  if (data.summary.groups.length) {
    const boxes = data.summary.groups.map(([name, number]) => {
      const button = chip("group", name, "");
      button.append(el("b", {}, String(number)), name);
      return button;
    });
    top.append(el("div", { className: "groups" }, ...boxes));
  }
  if (data.summary.table.length > 1) {
    const [header, ...rows] = data.summary.table.map((row, line) =>
      el("tr", {}, ...row.map((cell) => el(line ? "td" : "th", {}, cell))));
    top.append(el("table", { className: "counts" }, header, ...rows));
  }
  top.append(el("p", { className: "soft" }, "This page again: ", copied(data.command)));
  return top;
}

const detail = el("section", { className: "opened", hidden: true, ariaLabel: "Opened episode" });
const single = data.tiles.length === 1;
let bar = toolbar();
document.getElementById("page").append(heading(), single ? "" : bar, detail, grid);
document.body.classList.toggle("single", single);
grid.style.setProperty("--tile", sides.length ? "540px" : "320px");
update();
for (const video of grid.querySelectorAll("video")) seen.observe(video);
