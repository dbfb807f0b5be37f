// Publishes and reads through a relay, for the test.

import * as Moq from "@moq/net";

async function connect({ url, fingerprint, protocol }) {
	return await Moq.Connection.connect(new URL(url), {
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
	const track = reader.consume(path).subscribe("chat");
	const frame = await track.readFrame();
	const text = new TextDecoder().decode(frame.payload);
	broadcast.close();
	for (const connection of [publisher, reader]) connection.close();
	return { version: reader.version, text };
};
