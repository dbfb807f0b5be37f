//! The events of a subscription with moq-transport 0.17.0.

use moq_transport::{
    data::ObjectStatus,
    message::PublishDoneCode,
    serve::{ServeError, SubgroupReader, SubgroupsReader, TrackReader, TrackReaderMode},
    session::Subscribe,
};
use tokio::{sync::mpsc, task::JoinSet};

use super::failure;
use crate::peers::{Code, Event, Failure};

pub(super) async fn read_track(
    subscribed: Subscribe,
    reader: TrackReader,
    report: mpsc::UnboundedSender<Event>,
) {
    let mut groups = JoinSet::new();
    let end = read_groups(reader, &report, &mut groups).await;
    // The crate closes the track with the status of PUBLISH_DONE, even if that is a clean end.
    let ended = PublishDoneCode::TrackEnded as u64;
    let end = match subscribed.publish_done() {
        Some(done) if done.status_code == ended => Ok(()),
        Some(done) => {
            let code = u32::try_from(done.status_code).ok().map(Code::Done);
            Err(Failure { text: done.reason.0, code })
        }
        None => Err(failure(end)),
    };
    let _ = report.send(Event::TrackEnd(end));
    while groups.join_next().await.is_some() {}
}

/// Returns the status with which the track was closed.
async fn read_groups(
    reader: TrackReader,
    report: &mpsc::UnboundedSender<Event>,
    groups: &mut JoinSet<()>,
) -> ServeError {
    let mut subgroups: SubgroupsReader = match reader.mode().await {
        Ok(TrackReaderMode::Subgroups(subgroups)) => subgroups,
        Ok(_) => return ServeError::Mode,
        Err(err) => return err,
    };
    for arrival in 0.. {
        match subgroups.next().await {
            Ok(Some(group)) => {
                groups.spawn(read_group(arrival, group, report.clone()));
            }
            Ok(None) => return ServeError::Done,
            Err(err) => return err,
        }
    }
    unreachable!("an endless range")
}

async fn read_group(
    arrival: usize,
    mut group: SubgroupReader,
    report: mpsc::UnboundedSender<Event>,
) {
    let mut begun = false;
    let sequence = group.group_id;
    let end = loop {
        let object = group.next().await;
        // An END_OF_TRACK alone is not a group.
        let marker =
            matches!(&object, Ok(Some(object)) if object.status == ObjectStatus::EndOfTrack);
        if marker && !begun {
            return;
        }
        if !std::mem::replace(&mut begun, true) {
            let _ = report.send(Event::Group { arrival, sequence });
        }
        match object {
            Ok(Some(object)) if object.status != ObjectStatus::NormalObject => break Ok(()),
            Ok(Some(mut object)) => match object.read_all().await {
                Ok(payload) => {
                    let _ = report.send(Event::Frame { arrival, payload, millis: None });
                }
                Err(err) => break Err(failure(err)),
            },
            Ok(None) => break Ok(()),
            Err(err) => break Err(failure(err)),
        }
    };
    let _ = report.send(Event::GroupEnd { arrival, end });
}
