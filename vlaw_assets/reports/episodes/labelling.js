// ---- labelling: buttons that post to the server that gave this page; without one they are not there

let lastWhy = "";

async function giveLabel(episode, label, said) {
  said.className = "soft";
  said.textContent = "…";
  try {
    const answer = await fetch("label", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ episode_id: episode.id, label, why: lastWhy }),
    });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    Object.assign(episode, found);
    redrawn(episode);
    render();
  } catch (error) {
    said.className = "cut";
    said.textContent = `Not labelled: ${error.message}`;
  }
}

// The tiles of an episode again, with its new outcome.
function redrawn(episode) {
  data.tiles.forEach((tile, place) => {
    if (!tile.episodes.some((number) => episodes[number] === episode)) return;
    tiles[place] = tileOf(tile, place);
    tiles[place].classList.toggle("chosen", clock.at === place);
    for (const video of tiles[place].querySelectorAll("video")) seen.observe(video);
  });
  refreshBar();
  update();
}

function labelBox(episode) {
  const history = episode.labels.map((given) =>
    el("li", {}, el("strong", {}, given.label), ` ${given.who}: ${given.why} `, el("span", { className: "soft" }, given.at)));
  const found = history.length ? [el("h2", {}, "Labels, the last one holds"), el("ul", {}, ...history)] : [];
  if (!data.labelling) return found;
  const said = el("p", { className: "soft" }, `by ${data.labelling.who}; keys 1, 2, 3`);
  const why = el("input", { type: "text", value: lastWhy, placeholder: "why", ariaLabel: "why", id: "why", maxLength: 1000 });
  why.addEventListener("input", () => (lastWhy = why.value));
  const buttons = data.labelling.labels.map((label, index) =>
    el("button", { type: "button", id: `label-${label}`, title: String(index + 1), on: { click: () => giveLabel(episode, label, said) } },
      label.replaceAll("_", " ")));
  return [el("h2", {}, "Label it"), el("div", { className: "label" }, why, ...buttons), said, ...found];
}
