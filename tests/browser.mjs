// Look at every page of the built book as a person would: `node browser.mjs HTML_FOLDER SHOTS`.
// Light, dark and phone; console errors, serious axe findings, height, weight, overflow, search.
import { createRequire } from 'node:module';
import { readdirSync, readFileSync, statSync, mkdirSync } from 'node:fs';
const require = createRequire(process.cwd() + '/');
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const [root, shots] = process.argv.slice(2);
mkdirSync(shots, { recursive: true });
const studies = [...new Set(readdirSync(`${root}/_static/results`).map(name => name.split('.')[0]))];
// docutils' citation lists carry roles that axe calls wrong; no page of ours can change them
const theirs = ['.citation-list', '[role="doc-biblioentry"]'];
const SCREENS = 15, MEGABYTES = 1.5, WIDTHS = { light: 1280, dark: 1280, phone: 390, tablet: 768 };
const problems = [];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking'],
});
const pages = readdirSync(root).filter(name => name.endsWith('.html') && !['genindex.html'].includes(name));
for (const name of pages) {
  const weight = statSync(`${root}/${name}`).size / 1e6;
  if (weight > MEGABYTES) problems.push(`${name}: ${weight.toFixed(1)} MB, at most ${MEGABYTES}`);
  for (const [look, width] of Object.entries(WIDTHS)) {
    const context = await browser.newContext({
      viewport: { width, height: 800 }, colorScheme: look === 'dark' ? 'dark' : 'light',
    });
    const page = await context.newPage();
    const say = text => problems.push(`${name} (${look}): ${text}`);
    page.on('console', message => message.type() === 'error' && say(message.text()));
    page.on('pageerror', error => say(error.message));
    await page.goto(`file://${root}/${name}`);
    await page.waitForTimeout(300);
    const [height, wide] = await page.evaluate(() =>
      [document.documentElement.scrollHeight, document.documentElement.scrollWidth]);
    if (wide > width) say(`${wide} px wide, the screen has ${width}`);
    if (look === 'light' && studies.includes(name.replace('.html', '')) && height > SCREENS * 800)
      say(`${(height / 800).toFixed(1)} screens, at most ${SCREENS}`);
    if (look === 'light' || look === 'dark') {
      await page.evaluate(axe);
      const found = await page.evaluate(exclude => axe.run({ exclude: exclude.map(each => [each]) },
        { runOnly: ['wcag2a', 'wcag2aa'], preload: false }), theirs);
      for (const each of found.violations.filter(each => ['serious', 'critical'].includes(each.impact)))
        say(`axe: ${each.id} (${each.nodes.length}): ${each.nodes[0].target}`);
    }
    await page.screenshot({ path: `${shots}/${name.replace('.html', '')}-${look}.png`, fullPage: true });
    await context.close();
  }
}
const page = await browser.newPage();
for (const [word, target] of [['JumpReLU', 'l0.html'], ['bilingual', 'checkpoints.html'], ['mirror', 'sae_md.html'],
  ['ontology', 'align_sae.html'], ['resonance', 'gba.html']]) {
  if (!pages.includes(target)) continue;
  await page.goto(`file://${root}/search.html?q=${word}`);
  await page.waitForTimeout(1200);
  const links = await page.evaluate(() => [...document.querySelectorAll('#search-results a')].map(a => a.href));
  if (!links.some(link => link.includes(target))) problems.push(`search: ${word} does not find ${target}`);
}
await browser.close();
console.log(problems.join('\n') || `${pages.length} pages in four looks: nothing to mend`);
process.exit(problems.length ? 1 : 0);
