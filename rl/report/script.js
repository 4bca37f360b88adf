const tip = document.getElementById('tip'), NS = 'http://www.w3.org/2000/svg';
for (const svg of document.querySelectorAll('svg[data-hover]')) {
  const series = Object.entries(JSON.parse(svg.dataset.hover)), cursor = document.createElementNS(NS, 'line');
  cursor.setAttribute('class', 'cursor'); cursor.setAttribute('y1', 10); cursor.setAttribute('y2', 214);
  cursor.style.display = 'none'; svg.append(cursor);
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * 420 / box.width;
    const near = series.map(([name, points]) =>
      [name, points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a)]);
    const nearest = near.reduce((a, b) => Math.abs(b[1][0] - x) < Math.abs(a[1][0] - x) ? b : a)[1];
    cursor.setAttribute('x1', nearest[0]); cursor.setAttribute('x2', nearest[0]); cursor.style.display = '';
    tip.textContent = 'step ' + Math.round(nearest[2]) + '\n'
      + near.map(([name, p]) => name + '  ' + Number(p[3].toPrecision(4))).join('\n');
    tip.style.display = 'block';
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + 'px';
    tip.style.top = (event.clientY + 14) + 'px';
  });
  svg.addEventListener('pointerleave', () => { tip.style.display = cursor.style.display = 'none'; });
}
