// The latent maps: shows the item that is nearest to the pointer, or that the arrow keys have reached.
for (const map of document.querySelectorAll(".map")) {
  const svg = map.querySelector("svg"), dots = [...svg.querySelectorAll("circle")];
  const tile = map.querySelector(".shown .tile"), text = map.querySelector("output");
  let at = -1;
  const show = (i) => {
    if (i === at) return;
    dots[at]?.classList.remove("on");
    const d = dots[at = i].dataset;
    dots[i].classList.add("on");
    text.textContent = d.n;
    if (tile) { tile.style.setProperty("--x", d.x); tile.style.setProperty("--y", d.y); tile.hidden = false; tile.setAttribute("aria-label", d.n); }
  };
  const near = (e) => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const x = (e.clientX - box.left) * scale, y = (e.clientY - box.top) * scale;
    let best = 0, least = Infinity;
    dots.forEach((c, i) => { const d = (c.cx.baseVal.value - x) ** 2 + (c.cy.baseVal.value - y) ** 2; if (d < least) { least = d; best = i; } });
    show(best);
  };
  svg.addEventListener("pointermove", near);
  svg.addEventListener("pointerdown", near);
  svg.addEventListener("keydown", (e) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (step) { e.preventDefault(); show((at + step + dots.length) % dots.length); }
  });
}
