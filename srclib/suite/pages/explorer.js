const rows = [...root.querySelectorAll("details")];
const bar = root.querySelector(".x-bar"), field = bar.querySelector("input");
const lists = [...bar.querySelectorAll("select")];
const plain = text => text.normalize("NFKC").toLowerCase();
const words = row => plain(
  [...row.querySelectorAll("summary, li, .x-near")].map(part => part.textContent).join(" "));
let texts;  // made at the first search

function filter() {
  const wanted = plain(field.value.trim());
  if (wanted) texts ??= rows.map(words);
  let n = 0;
  rows.forEach((row, i) => {
    const fits = (!wanted || texts[i].includes(wanted))
      && lists.every(list => !list.value || row.dataset[list.dataset.key] === list.value);
    row.hidden = !fits;
    n += fits;
  });
  bar.querySelector("output").textContent = `${n} of ${rows.length} latents shown`;
}

function show(hash) {  // a link to a closed or filtered latent opens it
  const row = rows.find(row => "#" + row.id === hash);
  if (!row) return;
  row.hidden = false;
  row.open = true;
  row.firstElementChild.focus({preventScroll: true});
  row.scrollIntoView({block: "nearest"});
}

bar.hidden = false;
bar.addEventListener("input", filter);
filter();
addEventListener("hashchange", () => show(location.hash));
root.addEventListener("click", event => {
  const link = event.target.closest("a");
  if (!link) return;
  event.preventDefault();  // the browser's own jump would take the focus away again
  history.pushState(null, "", link.hash);
  show(link.hash);
});
root.addEventListener("keydown", event => {
  if (event.target.tagName !== "SUMMARY") return;
  const shown = rows.filter(row => !row.hidden), here = shown.indexOf(event.target.parentElement);
  const moves = {ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: shown.length - 1};
  const next = shown[moves[event.key]];
  if (!next) return;
  event.preventDefault();
  next.firstElementChild.focus();
});
show(location.hash);
