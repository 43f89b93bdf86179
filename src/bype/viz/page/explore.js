// The slider shows one of the steps; a file that is dropped on a form is sent.
for (const slider of document.querySelectorAll(".slider")) {
  const shown = slider.querySelector(".tile"), range = slider.querySelector("input");
  const steps = slider.parentElement.querySelectorAll(".steps .tile");
  const show = () => {
    const step = steps[range.value].style;
    for (const axis of ["--x", "--y"]) shown.style.setProperty(axis, step.getPropertyValue(axis));
    range.setAttribute("aria-valuetext", `step ${Number(range.value) + 1} of ${steps.length}`);
  };
  range.addEventListener("input", show);
  slider.hidden = false;
  show();
}
for (const form of document.querySelectorAll(".drop")) {
  form.addEventListener("dragover", (e) => e.preventDefault());
  form.addEventListener("drop", (e) => {
    e.preventDefault();
    if (!e.dataTransfer.files.length) return;
    form.elements.file.files = e.dataTransfer.files;
    form.requestSubmit();
  });
}
