// Runs the page and the relay with Chromium, headless: `node test.mjs DIRECTORY_OF_EXAMPLES [SCREENSHOT]`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test, after, before } from "node:test";
import { chromium } from "playwright-core";

const [examples, screenshot] = process.argv.slice(2);
const WAIT = { timeout: 30_000 };
/** A test that hangs fails. */
const LIMIT = { timeout: 90_000 };

let browser;
before(async () => {
	browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
});
after(() => browser.close());

/** Starts an example, and returns its process and the part of its first line that `pattern` captures. */
async function start(name, args, pattern) {
	const child = spawn(`${examples}/${name}`, args, { stdio: ["ignore", "pipe", "inherit"] });
	for await (const line of createInterface({ input: child.stdout })) {
		const found = line.match(pattern);
		if (found) {
			child.stdout.resume();
			return { child, found: found.slice(1) };
		}
	}
	throw new Error(`${name} ended`);
}

async function stop(child) {
	const ended = child.exitCode === null && once(child, "exit");
	child.kill("SIGTERM");
	await ended;
}

const until = (page, condition) => page.waitForFunction(condition, undefined, WAIT);

for (const [carrier, query] of [["WebTransport", ""], ["WebSocket", "?ws"]]) {
	test(`visitors of a blocking game loop see it move, move in it, and return by ${carrier}`, LIMIT, async () => {
		const game = await start("game_loop", ["--browser", "127.0.0.1:0"], /^open (\S+)/);
		const page = await browser.newPage({ viewport: { width: 720, height: 620 } });
		const sockets = [];
		page.on("websocket", (socket) => sockets.push(socket.url()));
		await page.goto(game.found[0] + query);
		await until(page, () => seen.frames > 30);
		const bots = await page.evaluate(() => seen.bots);
		assert.equal(bots.length, 8);
		assert.equal(sockets.length, carrier === "WebSocket" ? 1 : 0);
		await page.waitForFunction(([x]) => seen.bots[0][0] !== x, bots[0], WAIT);
		await until(page, () => /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/.test(seen.clock));

		// The mouse goes to the game and comes back as a part of its world.
		const canvas = await page.locator("#world").boundingBox();
		const move = (x, y) => page.mouse.move(canvas.x + x * canvas.width, canvas.y + y * canvas.height);
		await move(0.2, 0.2);
		await move(0.25, 0.75);
		await until(page, () =>
			seen.mice.some(([x, y]) => Math.abs(x - 0.25) < 0.01 && Math.abs(y - 0.75) < 0.01),
		);
		if (screenshot && carrier === "WebTransport") await page.screenshot({ path: screenshot });

		await page.reload();
		await until(page, () => seen.frames > 30);
		await stop(game.child);
		await until(page, () => seen.state === "the session ended");
		await page.close();
	});
}

const VERSIONS = {
	"moq-lite-02": "moql",
	"moq-lite-03": "moq-lite-03",
	"moq-lite-04": "moq-lite-04",
	"moq-lite-05": "moq-lite-05",
	"moq-transport-15": "moqt-15",
	"moq-transport-16": "moqt-16",
	"moq-transport-17": "moqt-17",
	"moq-transport-18": "moqt-18",
	"moq-transport-19": "moqt-19",
	"moq-transport-20": "moqt-20",
};

/** `@moq/net` does not offer 19 on a WebSocket. */
const WEB_SOCKET = Object.keys(VERSIONS).filter((version) => version !== "moq-transport-19");
const MATRIX = [
	...Object.keys(VERSIONS).map((version) => ["WebTransport", version]),
	...WEB_SOCKET.map((version) => ["WebSocket", version]),
];

for (const [carrier, version] of MATRIX) {
	test(`a page publishes to another through the relay in ${version} on ${carrier}`, LIMIT, async () => {
		const options = ["--listen", "127.0.0.1:0", "--version", version];
		const relay = await start("relay", options, /^listening (\S+) sha256:(\S+)/);
		const [address, fingerprint] = relay.found;
		const script = readFileSync(new URL("dist/matrix.js", import.meta.url));
		const server = createServer((request, response) => {
			const isScript = request.url === "/matrix.js";
			response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
			response.end(isScript ? script : '<script type="module" src="/matrix.js"></script>');
		});
		server.listen(0, "127.0.0.1");
		await once(server, "listening");
		const page = await browser.newPage();
		await page.goto(`http://127.0.0.1:${server.address().port}/`);
		await until(page, () => globalThis.roundTrip);
		const how = { address, fingerprint, protocol: VERSIONS[version], carrier };
		const got = await page.evaluate((how) => roundTrip(how), how);
		assert.deepEqual(got, ["hello from a browser", "hello from a browser"]);
		await page.close();
		server.close();
		await stop(relay.child);
	});
}
