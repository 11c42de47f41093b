package notify

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Pictures are drawn at twice the size at which mails show them, on nothing, so
// that they stand on light and on dark.
const (
	pictureWidth  = 1120
	pictureHeight = 300
)

// The colours of the dashboard, by what they mean.
var (
	colourPassed  = color.NRGBA{0x00, 0x72, 0xB2, 0xFF}
	colourFailed  = color.NRGBA{0x8A, 0x8F, 0x98, 0xFF}
	colourStopped = color.NRGBA{0xD5, 0x5E, 0x00, 0xFF}
	colourLine    = color.NRGBA{0x8A, 0x8F, 0x98, 0xFF}
)

// A volumeDay is what a picture shows of a day.
type volumeDay struct {
	reported                bool // false: no report came, which is not zero
	estimated               bool
	passed, failed, stopped int64 // messages
}

func (d volumeDay) total() int64 { return d.passed + d.failed + d.stopped }

// volumeOf tells apart what passed, what failed and was let through, and what
// failed and was stopped.
func volumeOf(t dmarc.Tally) volumeDay {
	d := volumeDay{reported: t.Messages > 0, passed: t.DMARCPass}
	d.stopped = min(t.Quarantine+t.Reject, t.Messages-t.DMARCPass)
	d.failed = t.Messages - t.DMARCPass - d.stopped
	return d
}

// drawVolume draws a bar for each day: what passed at the bottom, what failed
// above it, what was stopped on top, hatched. Days without reports are dots on the
// ground line; the upper end of estimated ones is faint.
func drawVolume(days []volumeDay) []byte {
	img := image.NewNRGBA(image.Rect(0, 0, pictureWidth, pictureHeight))
	const ground = pictureHeight - 6
	var most int64 = 1
	for _, d := range days {
		most = max(most, d.total())
	}
	for x := range pictureWidth {
		img.SetNRGBA(x, ground, colourLine)
		img.SetNRGBA(x, ground+1, colourLine)
	}
	width := float64(pictureWidth) / float64(max(1, len(days)))
	gap := max(2, width/8)
	for i, d := range days {
		left, right := int(math.Round(float64(i)*width+gap/2)), int(math.Round(float64(i+1)*width-gap/2))
		if !d.reported {
			middle := (left + right) / 2
			for y := ground - 10; y < ground-4; y++ {
				for x := middle - 3; x < middle+3; x++ {
					img.SetNRGBA(x, y, colourLine)
				}
			}
			continue
		}
		y := float64(ground)
		for part, n := range []int64{d.passed, d.failed, d.stopped} {
			if n == 0 {
				continue
			}
			height := max(2, float64(n)/float64(most)*(ground-4)) // what is there can be seen
			top := math.Max(0, y-height)
			for yy := int(math.Round(top)); yy < int(math.Round(y)); yy++ {
				for x := left; x < right; x++ {
					if c, ok := barColour(part, x, yy, d.estimated); ok {
						img.SetNRGBA(x, yy, c)
					}
				}
			}
			y = top
		}
	}
	var b bytes.Buffer
	png.Encode(&b, img) // into memory: it cannot fail
	return b.Bytes()
}

// barColour returns the colour of a part of a bar at a place, and false where
// nothing is drawn.
func barColour(part, x, y int, estimated bool) (color.NRGBA, bool) {
	c := [...]color.NRGBA{colourPassed, colourFailed, colourStopped}[part]
	if estimated {
		c.A = 0xA0
	}
	if part == 2 && (x+y)%10 >= 6 {
		return c, false // hatched
	}
	return c, true
}
