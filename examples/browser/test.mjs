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

/** The second one trusts every certificate: a page can't name that of a WebSocket, as it does for WebTransport. */
let browser, trusting;
before(async () => {
	const launch = (...args) =>
		chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", ...args] });
	browser = await launch();
	trusting = await launch("--ignore-certificate-errors");
});
const newPage = (carrier, options) => (carrier === "wss://" ? trusting : browser).newPage(options);
/** Processes and servers that a test that failed may have left, which would keep this one alive. */
const children = [];
const servers = [];
after(async () => {
	for (const child of children) child.kill("SIGKILL");
	for (const server of servers) server.close().closeAllConnections();
	await Promise.all([browser.close(), trusting.close()]);
});

/** Chromium's process for a page crashes once in a while. Then the test runs again. */
function pageTest(name, body) {
	test(name, LIMIT, async () => {
		try {
			await body();
		} catch (error) {
			if (!/Target crashed/.test(error.message)) throw error;
			console.log(`# Chromium crashed in: ${name}`);
			await body();
		}
	});
}

/** Starts an example, and returns its process and the part of its first line that `pattern` captures. */
async function start(name, args, pattern) {
	const child = spawn(`${examples}/${name}`, args, { stdio: ["ignore", "pipe", "inherit"] });
	children.push(child);
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

/** Serves the file of a path that `file` returns, with its type. */
async function serve(file) {
	const server = createServer((request, response) => {
		const [type, content] = file(new URL(request.url, "http://localhost").pathname);
		response.setHeader("content-type", type);
		response.end(content);
	});
	servers.push(server);
	server.listen(0, "127.0.0.1");
	await once(server, "listening");
	return { server, url: `http://127.0.0.1:${server.address().port}/` };
}

const until = (page, condition) => page.waitForFunction(condition, undefined, WAIT);

for (const [carrier, query, ...options] of [
	["WebTransport", ""],
	["ws://", "?ws"],
	["wss://", "?ws", "--wss"],
]) {
	pageTest(`visitors of a blocking game loop see it move, move in it, and return by ${carrier}`, async () => {
		const game = await start("game_loop", ["--browser", "127.0.0.1:0", ...options], /^open (\S+)/);
		const page = await newPage(carrier, { viewport: { width: 720, height: 620 } });
		const sockets = [];
		page.on("websocket", (socket) => sockets.push(socket.url()));
		await page.goto(game.found[0] + query);
		await until(page, () => seen.frames > 30);
		const bots = await page.evaluate(() => seen.bots);
		assert.equal(bots.length, 8);
		assert.equal(sockets.length, carrier === "WebTransport" ? 0 : 1);
		for (const socket of sockets) assert.ok(socket.startsWith(carrier), socket);
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
	...WEB_SOCKET.map((version) => ["ws://", version]),
	...WEB_SOCKET.map((version) => ["wss://", version]),
];

for (const [carrier, version] of MATRIX) {
	pageTest(`a page publishes to another through the relay in ${version} on ${carrier}`, async () => {
		const options = ["--listen", "127.0.0.1:0", "--version", version];
		const relay = await start("relay", options, /^listening (\S+) sha256:(\S+)/);
		const [address, fingerprint] = relay.found;
		const script = readFileSync(new URL("dist/matrix.js", import.meta.url));
		const { server, url } = await serve((path) =>
			path === "/matrix.js"
				? ["text/javascript", script]
				: ["text/html", '<script type="module" src="/matrix.js"></script>'],
		);
		const page = await newPage(carrier);
		await page.goto(url);
		await until(page, () => globalThis.roundTrip);
		const how = { address, fingerprint, protocol: VERSIONS[version], carrier };
		const got = await page.evaluate((how) => roundTrip(how), how);
		assert.deepEqual(got, ["hello from a browser", "hello from a browser"]);
		await page.close();
		server.close();
		await stop(relay.child);
	});
}

/** The page whose client is smoq in wasm. Nothing but that client changes its texts. */
const RUST = {
	"/": ["text/html", "index.html"],
	"/client.js": ["text/javascript", "client.js"],
	"/client_bg.wasm": ["application/wasm", "client_bg.wasm"],
};
const readRust = (path) => {
	const [type, name] = RUST[path] ?? ["text/plain"];
	return [type, name && readFileSync(new URL(`rust/dist/${name}`, import.meta.url))];
};

/** Errors that Rust has not turned into a text, such as a panic. */
const uncaught = [];
async function rustPage(url, relay) {
	const page = await browser.newPage();
	page.on("pageerror", (error) => uncaught.push(error));
	await page.goto(`${url}?${new URLSearchParams(relay)}`);
	return page;
}

/** Waits until an element shows a text, and fails with the text that it shows instead. */
async function shows(page, element, pattern) {
	const matches = ([element, pattern]) =>
		new RegExp(pattern).test(document.querySelector(element).textContent);
	await page.waitForFunction(matches, [element, pattern.source], WAIT).catch(async () => {
		assert.match(await page.textContent(element), pattern);
	});
}

const SECOND = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/;

for (const [version, name] of [["moq-lite-06", "moq-lite-06"], ["moq-transport-22", "moqt-22"]]) {
	pageTest(`Rust in a page reads a clock and publishes it in ${version}`, async () => {
		const options = ["--listen", "127.0.0.1:0", "--version", version];
		const relay = await start("relay", options, /^listening (\S+) sha256:(\S+)/);
		const [address, fingerprint] = relay.found;
		const clock = (...how) => ["--version", version, "--fingerprint", fingerprint, ...how];
		const native = `https://${address}`;
		const publisher = spawn(`${examples}/clock`, ["publish", native, ...clock()]);
		children.push(publisher);
		const { server, url } = await serve(readRust);
		const page = await rustPage(url, { relay: native, fingerprint });
		for (const visit of ["first", "second"]) {
			await shows(page, "#state", new RegExp(`^connected, ${name}$`));
			await shows(page, "#clock", SECOND);
			// What the page publishes is what it has read.
			const reading = clock("--broadcast", "page", "--count", "2");
			const [line] = (await start("clock", ["subscribe", native, ...reading], /(.+)/)).found;
			assert.match(line, SECOND, visit);
			if (visit === "first") await page.reload();
		}
		await stop(relay.child);
		await shows(page, "#state", /^the session ended$/);
		await stop(publisher);
		await page.close();
		assert.deepEqual(uncaught, []);
		server.close();
	});
}

pageTest("Rust in a page tells why it has no session", async () => {
	const relay = await start("relay", ["--listen", "127.0.0.1:0"], /^listening (\S+) sha256:(\S+)/);
	const [address, fingerprint] = relay.found;
	const { server, url } = await serve(readRust);
	for (const [how, pattern] of [
		[{ fingerprint }, /^failed: the address of the page has no `relay`$/],
		[{ relay: `https://${address}`, fingerprint: "xy" }, /^failed: the fingerprint is not/],
		[{ relay: "nowhere", fingerprint }, /^failed: no URL: /],
		[{ relay: `https://${address}`, fingerprint: "00".repeat(32) }, /^failed: can't reach the relay: /],
	]) {
		const page = await rustPage(url, how);
		await shows(page, "#state", pattern);
		await page.close();
	}
	assert.deepEqual(uncaught, []);
	server.close();
	await stop(relay.child);
});
