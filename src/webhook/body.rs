//! Receives bodies with bounded memory: each has a limit, and so have all together.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Bytes, HttpBody};

use super::budget::{Budget, Share};

/// Why a body was not received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// It is longer than allowed.
    TooLong,
    /// Others take all the memory.
    NoRoom,
    /// It broke off.
    Broken,
}

/// A body, and its part of the budget until it is dropped.
#[derive(Debug)]
pub struct Received {
    /// The body.
    pub bytes: Bytes,
    _share: Share,
}

/// Receives a body of at most `limit` bytes.
///
/// # Errors
/// See [`BodyError`]. A dead-line is the caller's matter.
pub async fn receive<B>(mut body: B, limit: usize, budget: &Budget) -> Result<Received, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    // What the peer says that it will send, or nothing. Its memory is set aside before it is used.
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut share = budget.share();
    let mut fits = |length: usize| {
        if length > limit {
            return Err(BodyError::TooLong);
        }
        let room = share.grow(length);
        room.then_some(()).ok_or(BodyError::NoRoom)
    };
    fits(declared)?;
    let first = next(&mut body).await?.unwrap_or_default();
    fits(first.len())?;
    let Some(mut piece) = next(&mut body).await? else {
        // The usual case: nothing to join, nothing to copy.
        return Ok(Received {
            bytes: first,
            _share: share,
        });
    };
    let mut whole = Vec::with_capacity(declared.max(first.len()));
    whole.extend_from_slice(&first);
    loop {
        fits(whole.len() + piece.len())?;
        whole.extend_from_slice(&piece);
        match next(&mut body).await? {
            Some(more) => piece = more,
            None => break,
        }
    }
    Ok(Received {
        bytes: whole.into(),
        _share: share,
    })
}

/// The next piece of data that is not empty.
async fn next<B>(body: &mut B) -> Result<Option<Bytes>, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(BodyError::Broken),
            // Trailers say nothing to us.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                _ => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use futures::{FutureExt, StreamExt};

    /// What every body may take without being counted.
    const FREE: usize = 1024;

    fn budget(bytes: usize) -> Budget {
        Budget::new(bytes, FREE)
    }

    fn pieces(sizes: &[usize]) -> Body {
        let pieces: Vec<_> = sizes
            .iter()
            .map(|size| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; *size])))
            .collect();
        Body::from_stream(futures::stream::iter(pieces))
    }

    fn received(body: Body, limit: usize, budget: &Budget) -> Result<Received, BodyError> {
        receive(body, limit, budget).now_or_never().unwrap()
    }

    #[test]
    fn pieces_are_joined_up_to_the_limit() {
        let budget = budget(0);
        for sizes in [&[][..], &[10], &[3, 0, 7], &[5, 4, 1]] {
            let whole = received(pieces(sizes), 10, &budget).unwrap();
            assert_eq!(whole.bytes.len(), sizes.iter().sum::<usize>());
        }
        for sizes in [&[11][..], &[10, 1], &[4, 4, 4]] {
            let error = received(pieces(sizes), 10, &budget).unwrap_err();
            assert_eq!(error, BodyError::TooLong);
        }
        let declared = Body::from(vec![b'x'; 11]);
        assert_eq!(
            received(declared, 10, &budget).unwrap_err(),
            BodyError::TooLong
        );
    }

    #[test]
    fn large_bodies_share_a_budget_and_small_ones_do_not_need_it() {
        let budget = budget(FREE);
        let large = received(pieces(&[FREE, FREE]), usize::MAX, &budget).unwrap();
        assert_eq!(budget.left(), 0);
        let second = received(pieces(&[FREE + 1]), usize::MAX, &budget);
        assert_eq!(second.unwrap_err(), BodyError::NoRoom);
        assert!(received(pieces(&[FREE]), usize::MAX, &budget).is_ok());
        drop(large);
        assert_eq!(budget.left(), FREE);
        assert!(received(pieces(&[FREE + 1]), usize::MAX, &budget).is_ok());
        assert_eq!(budget.left(), FREE);
    }

    #[test]
    fn a_body_that_breaks_off_gives_its_share_back() {
        let budget = budget(FREE);
        let good = Ok(Bytes::from(vec![b'x'; FREE + 5]));
        let broken = futures::stream::iter([good, Err(std::io::Error::other("gone"))]);
        let error = received(Body::from_stream(broken), usize::MAX, &budget).unwrap_err();
        assert_eq!((error, budget.left()), (BodyError::Broken, FREE));
        let silent =
            futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; FREE + 5]))])
                .chain(futures::stream::pending());
        let waiting = receive(Body::from_stream(silent), usize::MAX, &budget);
        assert!(waiting.now_or_never().is_none());
        assert_eq!(
            budget.left(),
            FREE,
            "whoever is given up gives it back, too"
        );
    }
}
