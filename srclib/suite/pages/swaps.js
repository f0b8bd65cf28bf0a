const [question, slot, strength] = root.querySelectorAll("select");
const sweeps = [...root.querySelectorAll("tbody")], answer = root.querySelector(".x-answer");
const sweepOf = (q, s) => sweeps.find(each => each.dataset.q === q && each.dataset.s === s);

function restrict(list, exists) {  // to what was asked; the choice moves there if it must
  for (const option of list.options) option.disabled = !exists(option.value);
  if (list.selectedOptions[0].disabled)
    list.value = [...list.options].find(option => !option.disabled).value;
}

function update() {
  restrict(slot, value => sweepOf(question.value, value));
  const sweep = sweepOf(question.value, slot.value), rows = [...sweep.rows].slice(1);
  restrict(strength, value => rows.some(row => row.dataset.a === value));
  sweeps.forEach(each => { each.hidden = each !== sweep; });
  const chosen = rows.find(row => row.dataset.a === strength.value);
  root.querySelector("[aria-current]")?.removeAttribute("aria-current");
  chosen.setAttribute("aria-current", "true");
  const [, said, wanted, verdict] = [...chosen.cells].map(cell => cell.textContent);
  const strong = document.createElement("strong");
  strong.textContent = said;
  const rest = `. The slot asks for ${wanted}: ${verdict}.`;
  answer.replaceChildren("The model answers ", strong, rest);
}

root.querySelector(".x-bar").hidden = answer.hidden = false;
root.addEventListener("change", update);
update();
