// The page of `game_loop --browser`: it watches the game's world and clock, and publishes the mouse.

import * as Moq from "@moq/net";

const canvas = document.querySelector("#world");
const show = (id, text) => {
	document.querySelector(`#${id}`).textContent = text;
};

/** Read by the test. */
const seen = { frames: 0, bots: [], mice: [], clock: "", state: "connecting", version: "" };
globalThis.seen = seen;

const setState = (state) => {
	seen.state = state;
	show("state", state);
};

function draw(payload) {
	const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
	const bots = view.getUint32(8);
	const points = [];
	for (let at = 12; at + 8 <= view.byteLength; at += 8) {
		points.push([view.getFloat32(at), view.getFloat32(at + 4)]);
	}
	[seen.bots, seen.mice] = [points.slice(0, bots), points.slice(bots)];
	seen.frames += 1;
	const context = canvas.getContext("2d");
	context.clearRect(0, 0, canvas.width, canvas.height);
	points.forEach(([x, y], n) => {
		context.fillStyle = n < bots ? "#58a6ff" : "#ffb454";
		context.beginPath();
		context.arc(x * canvas.width, y * canvas.height, n < bots ? 8 : 5, 0, 2 * Math.PI);
		context.fill();
	});
}

async function watchWorld(connection) {
	const track = connection.consume(Moq.Path.from("world")).subscribe("positions");
	for (let frame = await track.readFrame(); frame; frame = await track.readFrame()) {
		draw(frame.payload);
	}
}

async function watchClock(connection) {
	const track = connection.consume(Moq.Path.from("clock")).subscribe("seconds");
	for (let group = await track.recvGroup(); group; group = await track.recvGroup()) {
		const minute = await group.readString();
		for (let second = await group.readString(); second; second = await group.readString()) {
			seen.clock = minute + second;
			show("clock", seen.clock);
		}
	}
}

async function publishMouse(connection) {
	const broadcast = new Moq.Broadcast.Producer();
	const name = crypto.getRandomValues(new Uint32Array(1))[0].toString(16);
	connection.publish(Moq.Path.from(`mouse/${name}`), broadcast);
	for (let request = await broadcast.requested(); request; request = await broadcast.requested()) {
		if (request.name !== "position") {
			request.reject(new Error("no such track"));
			continue;
		}
		const track = request.accept();
		canvas.addEventListener("mousemove", (event) => {
			const position = new DataView(new ArrayBuffer(8));
			position.setFloat32(0, event.offsetX / canvas.width);
			position.setFloat32(4, event.offsetY / canvas.height);
			track.writeFrame({
				payload: new Uint8Array(position.buffer),
				timestamp: Moq.Time.Timestamp.now(),
			});
		});
	}
}

/** By WebTransport, or by WebSocket if the browser has none or the query of the page is `?ws`. */
async function connect({ url, fingerprint, webSocket }) {
	if (location.search === "?ws") delete globalThis.WebTransport;
	if (!globalThis.WebTransport) return await Moq.Connection.connect(new URL(webSocket));
	return await Moq.Connection.connect(new URL(url), {
		webtransport: { serverCertificateHashes: [{ value: fingerprint }] },
		websocket: { enabled: false },
	});
}

async function run() {
	const session = await (await fetch("/session.json")).json();
	const connection = await connect(session);
	seen.version = connection.version;
	setState(`connected, ${connection.version}`);
	for (const task of [watchWorld, watchClock, publishMouse]) {
		task(connection).catch((error) => console.warn(task.name, error.message));
	}
	await connection.closed;
	setState("the session ended");
}

let last = 0;
setInterval(() => {
	show("rate", `${seen.frames - last} states a second`);
	last = seen.frames;
}, 1000);
run().catch((error) => setState(`failed: ${error.message}`));
