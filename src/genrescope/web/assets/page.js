// Moves the playhead of an answer with its sound, and seeks where the picture is clicked.
document.addEventListener("timeupdate", follow, true);
document.addEventListener("seeking", follow, true);

function follow(event) {
  const sound = event.target;
  if (!sound.classList || !sound.classList.contains("gs-sound")) return;
  const stage = sound.parentElement.querySelector(".gs-stage");
  const head = stage.querySelector(".gs-playhead");
  head.hidden = false;
  head.style.left = Math.min(100, (100 * sound.currentTime) / stage.dataset.seconds) + "%";
}

document.addEventListener("click", (event) => {
  const stage = event.target.closest && event.target.closest(".gs-stage");
  if (!stage) return;
  const sound = stage.parentElement.querySelector(".gs-sound");
  const box = stage.getBoundingClientRect();
  if (sound) sound.currentTime = ((event.clientX - box.left) / box.width) * stage.dataset.seconds;
});

// The button to drop files on is named by what it says; gradio gives it another name.
new MutationObserver(() => {
  for (const button of document.querySelectorAll("#gs-input .upload-container[aria-label]")) {
    button.removeAttribute("aria-label");
  }
}).observe(document.documentElement, { childList: true, subtree: true });
