// Publishes and reads through a relay, for the test.

import * as Moq from "@moq/net";

/** The relay has only one version. On WebTransport the page offers only that. */
async function connect({ address, fingerprint, protocol, carrier }) {
	const scheme = { "ws://": "http", "wss://": "https" }[carrier];
	if (scheme) {
		delete globalThis.WebTransport;
		return await Moq.Connection.connect(new URL(`${scheme}://${address}/`));
	}
	return await Moq.Connection.connect(new URL(`https://${address}/`), {
		webtransport: { serverCertificateHashes: [{ value: fingerprint }], protocols: [protocol] },
		websocket: { enabled: false },
	});
}

/** Writes to each requested track again and again, because a reader of moq-transport gets only what comes after it. */
async function serve(broadcast, text) {
	for (let request = await broadcast.requested(); request; request = await broadcast.requested()) {
		const track = request.accept();
		const writing = setInterval(() => track.writeString(text), 50);
		track.closed.then(() => clearInterval(writing));
	}
}

async function read(connection, path) {
	const frame = await connection.consume(path).subscribe("chat").readFrame();
	return new TextDecoder().decode(frame.payload);
}

globalThis.roundTrip = async (relay) => {
	const [publisher, reader] = [await connect(relay), await connect(relay)];
	const broadcast = new Moq.Broadcast.Producer();
	const path = Moq.Path.from("browser/room");
	publisher.publish(path, broadcast);
	serve(broadcast, "hello from a browser").catch(console.warn);

	const announced = reader.announced();
	for (let event = await announced.next(); event?.path !== path; event = await announced.next()) {
		if (!event) throw new Error("the announcements ended");
	}
	const texts = [await read(reader, path)];
	// Now the relay knows an object, and tells readers of moq-transport which one.
	const late = await connect(relay);
	texts.push(await read(late, path));
	broadcast.close();
	for (const connection of [publisher, reader, late]) connection.close();
	return texts;
};
