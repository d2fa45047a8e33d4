// Keys for the viewer. Every page works without them.
"use strict";
(() => {
  const turns = [...document.querySelectorAll(".turn")];
  const links = [...document.querySelectorAll("table.list tbody a")];
  const stops = turns.length ? turns : links;
  let here = turns.findIndex((turn) => "#" + turn.id === location.hash);

  const move = (by) => {
    if (!stops.length) return;
    here = here < 0 ? (by > 0 ? 0 : stops.length - 1) : Math.min(Math.max(here + by, 0), stops.length - 1);
    if (stops === links) return links[here].focus();
    turns.forEach((turn, i) => turn.classList.toggle("here", i === here));
    turns[here].scrollIntoView({ block: "start" });
    history.replaceState(null, "", "#" + turns[here].id);
  };
  const follow = (rel) => document.querySelector(`a[rel="${rel}"]`)?.click();
  const unfold = (kind) => {
    const folds = [...document.querySelectorAll(`details.${kind}`)];
    const open = !folds.every((fold) => fold.open);
    folds.forEach((fold) => { fold.open = open; });
  };
  const keys = {
    j: () => move(1), k: () => move(-1),
    ArrowRight: () => follow("next"), ArrowLeft: () => follow("prev"),
    u: () => follow("up"), r: () => location.reload(),
    p: () => unfold("prompt"), o: () => unfold("room"),
    i: () => {
      const jump = document.querySelector("a.jump");
      if (!jump) return;
      here = turns.findIndex((turn) => "#" + turn.id === jump.hash);
      move(0);
    },
    "/": () => {
      const search = document.getElementById("text");
      if (!search) return location.assign("/#text");
      search.focus();
      search.select();
    },
  };
  if (location.hash === "#text") document.getElementById("text")?.focus();
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea")) return;
    // What scrolls sideways keeps the arrows.
    const wide = event.key.startsWith("Arrow") && event.target.closest(".wide");
    if (wide && wide.scrollWidth > wide.clientWidth) return;
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
})();
