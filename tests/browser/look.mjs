// Opens a page in Chromium, at two widths, and says as JSON what a reader would find wrong with it.
//   node look.mjs FOLDER_WITH_NODE_MODULES PAGE.html PICTURE.png
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [folder, page, picture] = process.argv.slice(2);
const require = createRequire(`${folder}/package.json`);
const load = async (name) => (await import(pathToFileURL(require.resolve(name)))).default;
const chromium = await load('@sparticuz/chromium');
const puppeteer = await load('puppeteer-core');
const patient = 240_000;

const browser = await puppeteer.launch({
  args: chromium.args,
  executablePath: await chromium.executablePath(),
  headless: 'shell',
  timeout: patient,
  protocolTimeout: patient,
});
const faults = [];
const found = {};
const tab = await browser.newPage();
tab.on('pageerror', (error) => faults.push(`script: ${error.message}`));
tab.on('console', (said) => said.type() === 'error' && faults.push(`console: ${said.text()}`));
tab.on('request', (asked) => {
  if (!/^(file|data):/.test(asked.url())) faults.push(`it asks for ${asked.url()}`);
});
for (const width of [1240, 420]) {
  await tab.setViewport({ width, height: 900 });
  await tab.goto(pathToFileURL(page), { timeout: patient });
  const seen = await tab.evaluate(() => {
    const wrong = [];
    const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
    const charts = [...document.querySelectorAll('svg')];
    for (const chart of charts) {
      const name = chart.querySelector('title')?.textContent;
      if (chart.getAttribute('role') !== 'img' || !chart.getAttribute('aria-label')) wrong.push(`${name} is not told in words`);
      const frame = chart.getBoundingClientRect();
      if (frame.width < 100 || frame.height < 20) wrong.push(`${name} is ${frame.width} by ${frame.height}`);
      const texts = [...chart.querySelectorAll('text')].map((t) => [t.textContent, t.getBoundingClientRect()]);
      texts.forEach(([text, box], i) => {
        if (box.left < frame.left - 1 || box.right > frame.right + 1) wrong.push(`${name}: "${text}" is cut off`);
        for (const [other, place] of texts.slice(i + 1)) if (!apart(box, place)) wrong.push(`${name}: "${text}" covers "${other}"`);
      });
    }
    if (document.documentElement.scrollWidth > innerWidth) wrong.push('the page is wider than the window');
    const levels = [...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.tagName[1]));
    if (levels[0] !== 1 || levels.some((level, i) => i && level > levels[i - 1] + 1)) wrong.push('headings skip a level');
    return {
      wrong,
      charts: charts.length,
      headings: [...document.querySelectorAll('h2')].map((h) => h.textContent),
      tiles: Object.fromEntries([...document.querySelectorAll('.tiles div')].map((d) => [d.children[0].textContent, d.children[1].textContent])),
      marks: charts.reduce((n, chart) => n + chart.querySelectorAll('rect,circle').length, 0),
    };
  });
  faults.push(...seen.wrong.map((fault) => `${width} wide: ${fault}`));
  found[width] = seen;
  if (width === 1240) await tab.screenshot({ path: picture, fullPage: true });
}
const version = await browser.version();
await browser.close();
console.log(JSON.stringify({ faults, version, ...found[1240] }));
