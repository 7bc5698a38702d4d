"use strict";
// Follows what the page shows: asks for it again and puts the new parts in place. Without this script the
// browser does so by itself, by a refresh.
(function () {
  const EVERY = 5000;
  let last = Date.now();

  const parts = (page) => Array.from(page.querySelectorAll("main > section[id]"));

  // Somebody marks a command to copy it, or looks at something else.
  function isBusy() {
    const selection = document.getSelection();
    return document.hidden || (selection !== null && !selection.isCollapsed);
  }

  function take(fresh) {
    document.title = fresh.title;
    for (const one of ["link[rel=icon]", ".when time"]) {
      document.querySelector(one).replaceWith(fresh.querySelector(one));
    }
    const focused = document.activeElement && document.activeElement.closest("main > section[id]");
    const wanted = new Set(parts(fresh).map((part) => part.id));
    for (const here of parts(document)) {
      if (!wanted.has(here.id)) {
        here.remove();
      }
    }
    for (const part of parts(fresh)) {
      const here = document.getElementById(part.id);
      if (here === null) {
        document.getElementById("main").append(part);
      } else if (here !== focused && here.outerHTML !== part.outerHTML) {
        const scrolled = Array.from(here.querySelectorAll(".scroll"), (one) => one.scrollLeft);
        here.replaceWith(part);
        part.querySelectorAll(".scroll").forEach((one, index) => { one.scrollLeft = scrolled[index] || 0; });
      }
    }
  }

  function say(text, stale) {
    document.body.classList.toggle("stale", stale);
    document.getElementById("live").textContent = text;
  }

  async function follow() {
    if (isBusy()) {
      return;
    }
    try {
      const answer = await fetch("", { cache: "no-store", credentials: "same-origin" });
      if (!answer.ok) {
        throw new Error(String(answer.status));
      }
      take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      last = Date.now();
      say("live", false);
    } catch (_error) {
      say(`no answer for ${Math.round((Date.now() - last) / 1000)} s: does cyrus-sync web run?`, true);
    }
  }

  say("live", false);
  setInterval(follow, EVERY);
  document.addEventListener("visibilitychange", follow);
})();
