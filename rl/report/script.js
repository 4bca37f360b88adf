const tip = document.getElementById('tip'), NS = 'http://www.w3.org/2000/svg';

// Charts: the mouse or the arrow keys read the values, the legend switches curves.
for (const svg of document.querySelectorAll('svg[data-hover]')) {
  const series = Object.entries(JSON.parse(svg.dataset.hover)), hidden = new Set(), cursor = document.createElementNS(NS, 'line');
  cursor.setAttribute('class', 'cursor'); cursor.setAttribute('y1', 10); cursor.setAttribute('y2', 214);
  cursor.style.display = 'none'; svg.append(cursor);
  let at = null;
  const leave = () => { tip.style.display = cursor.style.display = 'none'; at = null; };
  const read = (x, left, top) => {
    const near = series.filter(([name]) => !hidden.has(name)).map(([name, points]) =>
      [name, points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a)]);
    if (!near.length) return leave();
    const nearest = near.reduce((a, b) => Math.abs(b[1][0] - x) < Math.abs(a[1][0] - x) ? b : a)[1];
    at = nearest[0];
    cursor.setAttribute('x1', at); cursor.setAttribute('x2', at); cursor.style.display = '';
    tip.textContent = svg.dataset.unit + ' ' + Math.round(nearest[2]) + '\n'
      + near.map(([name, p]) => name + '  ' + Number(p[3].toPrecision(4))).join('\n');
    tip.style.display = 'block';
    tip.style.left = Math.max(4, Math.min(left + 14, innerWidth - tip.offsetWidth - 8)) + 'px';
    tip.style.top = (top + 14) + 'px';
  };
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect();
    read((event.clientX - box.left) * 420 / box.width, event.clientX, event.clientY);
  });
  svg.addEventListener('pointerleave', leave);
  svg.addEventListener('blur', leave);
  svg.addEventListener('keydown', event => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (event.key === 'Escape') return leave();
    if (!step) return;
    event.preventDefault();
    const places = [...new Set(series.flatMap(([, points]) => points.map(p => p[0])))].sort((a, b) => a - b);
    const next = at === null ? (step > 0 ? 0 : places.length - 1) : places.indexOf(at) + step;
    const x = places[Math.max(0, Math.min(places.length - 1, next))], box = svg.getBoundingClientRect();
    read(x, box.left + x * box.width / 420, box.top + 20);
  });
  for (const button of svg.parentElement.querySelectorAll('[data-switch]')) button.addEventListener('click', () => {
    const name = button.dataset.switch, off = !hidden.delete(name);
    if (off) hidden.add(name);
    button.setAttribute('aria-pressed', String(!off));
    for (const curve of svg.querySelectorAll('[data-curve]')) if (curve.dataset.curve === name) curve.style.display = off ? 'none' : '';
  });
}

// Choices: one of several buttons is pressed, and what holds its value is shown.
for (const group of document.querySelectorAll('[data-pick]')) {
  const name = group.dataset.pick, buttons = [...group.querySelectorAll('button')];
  const choose = chosen => {
    for (const one of buttons) one.setAttribute('aria-pressed', String(one === chosen));
    for (const element of document.querySelectorAll('[data-' + name + ']')) {
      const wanted = chosen.dataset.value === 'all' || element.getAttribute('data-' + name).split(' ').includes(chosen.dataset.value);
      element.hidden = false;
      element.classList.toggle('off-' + name, !wanted);
    }
  };
  for (const button of buttons) button.addEventListener('click', () => choose(button));
  group.addEventListener('keydown', event => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key], place = buttons.indexOf(document.activeElement);
    if (!step || place < 0) return;
    event.preventDefault();
    const next = buttons[(place + step + buttons.length) % buttons.length];
    next.focus(); choose(next);
  });
  choose(buttons.find(one => one.getAttribute('aria-pressed') === 'true') || buttons[0]);
}
