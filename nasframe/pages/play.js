(() => {
  const player = document.querySelector(".player");
  if (!player) return;
  const [button, slider, output] = ["button", "input", "output"].map((name) => player.querySelector(name));
  const epochs = slider.dataset.epochs.split(" ").map(Number);
  const last = slider.dataset.last;
  const cells = [...document.querySelectorAll(".heat td[data-w]")].map((cell) => [cell, cell.dataset.w.split(" ")]);
  const rows = document.querySelectorAll(".heat:not(.confusion) tbody tr");
  const charts = document.querySelectorAll("svg[data-last]");
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const pause = isCalm ? 1000 : Math.max(80, Math.min(600, 8000 / epochs.length)); // ms an epoch
  let timer = 0;

  function show(frame) {
    const epoch = epochs[frame];
    for (const [cell, weights] of cells) {
      cell.textContent = weights[frame] === "-" ? "" : Number(weights[frame]).toFixed(2).replace(/^0/, "");
      cell.style.setProperty("--w", weights[frame] === "-" ? 0 : weights[frame]);
    }
    for (const row of rows) {
      const values = [...row.cells].map((cell) => parseFloat(cell.style.getPropertyValue("--w")) || 0);
      const top = values.indexOf(Math.max(...values));
      [...row.cells].forEach((cell, index) => cell.classList.toggle("top", index > 0 && index === top));
    }
    for (const chart of charts) {
      const { left, right, last: end } = chart.dataset;
      const x = Number(left) + ((epoch - 1) / (end - 1)) * (right - left);
      const cursor = chart.querySelector(".cursor");
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
    }
    output.textContent = `epoch ${epoch} of ${last}`;
    slider.setAttribute("aria-valuetext", output.textContent);
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    button.textContent = "▶ Play";
  }

  function play() {
    if (slider.value === slider.max) slider.value = 0;
    show(Number(slider.value));
    button.textContent = "❚❚ Pause";
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      show(Number(slider.value));
      if (slider.value === slider.max) stop();
    }, pause);
  }

  button.addEventListener("click", () => (timer ? stop() : play()));
  slider.addEventListener("input", () => {
    stop();
    show(Number(slider.value));
  });
  player.hidden = false;
})();
