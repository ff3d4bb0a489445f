# Pictures of results as SVG, written by hand: bars and lines with a title,
# units and values, legible on light and dark pages because they bring their
# own background.

package Svg;

use strict;
use warnings;

use List::Util qw(max);

our %colors = (
	cmq => '#1f6feb',
	pgmq => '#d1732a',
	pgq => '#5a8f3c',
	pgque => '#2a9d8f',
	pgboss => '#8a5fbf',
	graphile => '#b8860b',
	plain => '#777777',
);

sub escape
{
	my ($text) = @_;
	$text =~ s/&/&amp;/g;
	$text =~ s/</&lt;/g;
	return $text;
}

sub text
{
	my ($x, $y, $text, %arg) = @_;
	return sprintf '<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s"%s fill="#222">%s</text>' . "\n",
	  $x, $y, $arg{size} // 13, $arg{anchor} // 'start', ($arg{bold} ? ' font-weight="bold"' : ''),
	  escape($text);
}

sub frame
{
	my ($width, $height, $title, $body) = @_;
	return qq{<svg xmlns="http://www.w3.org/2000/svg" width="$width" height="$height" viewBox="0 0 $width $height" font-family="Helvetica, Arial, sans-serif" role="img">\n}
	  . '<title>' . escape($title) . "</title>\n"
	  . qq{<rect width="$width" height="$height" fill="#ffffff" stroke="#cccccc"/>\n}
	  . text(16, 26, $title, size => 15, bold => 1)
	  . $body
	  . "</svg>\n";
}

# A number as people write it.
sub number
{
	my ($value) = @_;
	return sprintf('%.2f', $value) if $value < 10;
	return sprintf('%.1f', $value) if $value < 100;
	my $text = sprintf '%.0f', $value;
	1 while $text =~ s/^(\d+)(\d{3})/$1,$2/;
	return $text;
}

# Groups of bars: [ [ group, [ [ system, value, low, high ], ... ] ], ... ]
sub bars
{
	my ($title, $unit, @groups) = @_;
	my ($left, $width) = (120, 720);
	my $room = $width - $left - 130;
	my $most = max(map { map { $_->[3] // $_->[1] } @{ $_->[1] } } @groups) || 1;
	my $y = 52;
	my $body = text(16, $y - 6, $unit, size => 12);

	foreach my $group (@groups)
	{
		my ($name, $bars) = @$group;
		$y += 22;
		$body .= text(16, $y - 6, $name, bold => 1);
		foreach my $bar (@$bars)
		{
			my ($system, $value, $low, $high) = @$bar;
			my $length = $value / $most * $room;
			$body .= text($left - 8, $y + 13, $system, anchor => 'end');
			$body .= sprintf '<rect x="%d" y="%d" width="%.1f" height="15" fill="%s"/>' . "\n",
			  $left, $y + 1, $length, $colors{$system} // '#777777';
			if (defined $low && $high > $low)
			{
				$body .= sprintf '<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#222" stroke-width="1.5"/>' . "\n",
				  $left + $low / $most * $room, $left + $high / $most * $room, $y + 8, $y + 8;
			}
			$body .= text($left + max($length, ($high // 0) / $most * $room) + 6, $y + 13, number($value));
			$y += 20;
		}
	}
	return frame($width, $y + 16, $title, $body);
}

# Lines over time: ( [ system, [ value per second ] ], ... )
sub lines
{
	my ($title, $unit, $unit_x, @lines) = @_;
	my ($width, $height, $left, $top, $bottom) = (720, 360, 70, 50, 50);
	my ($room_x, $room_y) = ($width - $left - 90, $height - $top - $bottom);
	my $most = max(map { @{ $_->[1] } } @lines) * 1.05;
	my $count = max(map { scalar @{ $_->[1] } } @lines);
	my $body = text(16, $top - 6, $unit, size => 12)
	  . text($left + $room_x / 2, $height - 12, $unit_x, size => 12, anchor => 'middle');

	foreach my $step (0 .. 4)
	{
		my $value = $most * $step / 4;
		my $y = $top + $room_y - $room_y * $step / 4;
		$body .= sprintf '<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#dddddd"/>' . "\n", $left,
		  $left + $room_x, $y, $y;
		$body .= text($left - 8, $y + 4, number($value), size => 12, anchor => 'end');
		my $x = $left + $room_x * $step / 4;
		$body .= text($x, $top + $room_y + 18, sprintf('%.0f', $count * $step / 4), size => 12, anchor => 'middle');
	}
	foreach my $line (@lines)
	{
		my ($system, $values) = @$line;
		my $i = 0;
		my @points = map { sprintf '%.1f,%.1f', $left + $room_x * $i++ / ($count - 1 || 1), $top + $room_y - $_ / $most * $room_y } @$values;
		my ($end) = $points[-1] =~ /,(.*)/;
		$body .= sprintf '<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>' . "\n",
		  $colors{$system} // '#777777', join ' ', @points;
		$body .= text($left + $room_x + 6, $end + 4, $system, bold => 1);
	}
	return frame($width, $height, $title, $body);
}

1;
